"""Attack a service from outside and see what becomes of those who did nothing.

    python benchmarks/attack.py --max-proposals 20

Every trial starts a service of its own and sends to it alone, over loopback:

keys         every route that needs a key, in some fifty spellings of its path, without one
heads        a hundred heads of requests whose bodies never come, one that announces 512 MiB
monopoly     one request of sixteen pictures with all their boxes, which comes when the service idles
slow         slow bodies and unreadable pictures while the device idles: what the service learns of its speed
garbage      load beyond capacity, with one more client that sends unreadable pictures in a loop
drawing      drawn pictures of 1 x 65535 and other shapes, five seconds each
endless      heads, lines and chunks that never end
unread       large drawn pictures that are asked for and never read
idle         more idle connections than file descriptors, and then the worker is killed
bodies       16 x 32 MiB in a form, in JSON, three times at once
switching    SIGHUP during a switch, and workers killed meanwhile
weights      damaged weights, by ``detector weights verify`` and by SIGHUP

Prints each trial's figures, and as WRONG what should not be: a bystander that is not served, memory that
grows, a worker that stays lost. Status 1 if anything was wrong.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from attacks import admission, bodies, connections, drawing, keys, switching, weights
from loadtest.figures import machine
from loadtest.trial import Trial
from tyro.conf import UseAppendAction, arg

from detector.cli.command_line import at_least, run_script

TRIALS: dict[str, Callable[[Mapping[str, object]], Trial]] = {
    "keys": keys.keys,
    "heads": admission.heads,
    "monopoly": admission.monopoly,
    "slow": admission.slow_clients,
    "garbage": admission.garbage,
    "drawing": drawing.drawing,
    "endless": connections.endless_heads,
    "unread": connections.unread_answers,
    "idle": connections.idle_connections,
    "bodies": bodies.bodies,
    "switching": switching.switching,
    "weights": weights.weights,
}


def main(
    trial: Annotated[
        Sequence[str], UseAppendAction, arg(help=f"One of {', '.join(TRIALS)}; all if none.")
    ] = (),
    max_proposals: Annotated[int, at_least(1), arg(help="Regions of each picture.")] = 20,
    device: str = "auto",
    weights_file: Annotated[Path | None, arg(name="weights", help="Instead of those that ship.")] = None,
) -> None:
    """Print the figures of each trial; status 1 if anything was wrong."""
    if unknown := set(trial or ()) - set(TRIALS):
        raise SystemExit(f"error: unknown trial {unknown.pop()!r}: use {', '.join(TRIALS)}")
    given = {"max_proposals": max_proposals, "device": device, "weights": weights_file}
    settings = {name: value for name, value in given.items() if value is not None}
    print(f"{machine()}, device {device}, max_proposals {max_proposals}")
    wrong = 0
    for name in trial or TRIALS:
        done = TRIALS[name](settings)
        print(f"\n{done.table().text()}", flush=True)
        wrong += bool(done.wrong)
    print(f"\n{wrong} of {len(trial or TRIALS)} trials went wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    run_script(main)
