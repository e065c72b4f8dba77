"""What is said of a generative training while it runs: each alarm once, and when it has gone."""

from __future__ import annotations

from intarsia.fitting.generators import news
from intarsia.training.verdicts import Level, Verdict


def verdict(level: Level) -> tuple[Verdict, ...]:
    return (Verdict("critic", level, f"it is {level}.", "" if level == "good" else "a slower critic."),)


def test_an_alarm_is_said_once_with_what_to_try_and_again_when_it_changes() -> None:
    heard: dict[str, str] = {}
    levels: tuple[Level, ...] = ("good", "bad", "bad", "warning", "bad", "good", "good", "warning")
    said = [news(verdict(level), heard) for level in levels]
    alarm = ["critic: it is bad. To try: a slower critic."]
    again = ["critic: it is warning. To try: a slower critic."]
    assert said == [
        [],
        alarm,
        [],
        ["critic: it is warning."],
        ["critic: it is bad."],
        ["critic: it is good."],
        [],
        again,
    ]
