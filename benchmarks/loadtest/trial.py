"""A trial of the service: its figures, and what was wrong."""

from dataclasses import dataclass, field

from detector.evaluation.measured_table import Column, Table


@dataclass
class Trial:
    """Collects figures to print, and every expectation that was not met."""

    name: str
    figures: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def check(self, right: bool, otherwise: str) -> None:
        """Note ``otherwise`` if it is not right."""
        if not right:
            self.wrong.append(otherwise)

    def table(self) -> Table:
        """Return all of it."""
        wrong = [f"WRONG: {problem}" for problem in self.wrong]
        return Table.of(self.name, [Column("what"), Column("how it went")], list(self.figures.items()), wrong)
