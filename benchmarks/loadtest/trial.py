"""A trial of the service: its figures, and what was wrong."""

from dataclasses import dataclass, field


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

    def show(self) -> None:
        """Print all of it."""
        print(f"\n{self.name}")
        for key, value in self.figures.items():
            print(f"  {key}: {value}")
        for problem in self.wrong:
            print(f"  WRONG: {problem}", flush=True)
