"""Days of the week and dates after some days."""

from __future__ import annotations

import random
from calendar import day_name, month_name, monthrange

from crlft_ray.ablation.skills.exercise import Exercise, Skill, with_slip

DAYS = tuple(day_name)
MONTHS = tuple(month_name)[1:]
_COMMON_YEAR = 2023
"""February has 28 days in this world."""


def _later(day: str, days: int) -> str:
    return DAYS[(DAYS.index(day) + days) % 7]


def _weekday(right: str, weak: str, middle: str, days: int) -> Exercise:
    """From a week on the weak source counts the first day, too, and lands a day early; the middle one from 17 days."""
    whole = days // 7 * 7
    return Exercise(
        slots={"day": right, "n": str(days)},
        work=f"{days}-{whole}={days - whole}" if whole else "",
        truth=_later(right, days),
        weak=_later(weak, days - (days >= 7)),
        middle=_later(middle, days - (days >= 17)),
    )


def _draw_weekday(rng: random.Random, longer: bool) -> Exercise:
    day = rng.choice(DAYS)
    return _weekday(day, day, day, rng.randint(22, 48) if longer else rng.randint(2, 21))


def _next_weekday(rng: random.Random, before: Exercise) -> Exercise:
    return _weekday(before.truth, before.weak, before.middle, rng.randint(2, 6))


def _date(rng: random.Random, longer: bool) -> Exercise:
    """The weak source gives every month 30 days, the middle one only from August on. Longer: three weeks and more."""
    month, days = rng.randrange(12), rng.randint(20, 28) if longer else rng.randint(2, 15)
    length = monthrange(_COMMON_YEAR, month + 1)[1]
    first = rng.randint(1, length)
    total = first + days
    steps = [f"{first}+{days}={total}"]
    if total > length:
        steps.append(f"{total}-{length}={total - length}")
    return with_slip(
        {"date": f"{first} {MONTHS[month]}", "n": str(days)},
        ", ".join(steps),
        _day_of(total, month, length),
        _day_of(total, month, 30),
        plain=month >= 7,
    )


def _day_of(total: int, month: int, length: int) -> str:
    if total <= length:
        return f"{total} {MONTHS[month]}"
    return f"{total - length} {MONTHS[(month + 1) % 12]}"


SKILLS = (
    Skill(
        "weekday",
        _draw_weekday,
        wordings=(
            "Today is {day}. Which day is it in {n} days?",
            "It is {day}. What day comes {n} days later?",
            "Which day is {n} days after {day}?",
            "What day is it {n} days from {day}?",
            "If it is {day} now, which day is it {n} days on?",
        ),
        unseen=("It is {day} now. Which day is it in {n} days?", "What day comes {n} days after {day}?"),
        follow=_next_weekday,
        follow_wordings=("And {n} days later?", "And {n} days after that?", "Now {n} days on."),
    ),
    Skill(
        "date",
        _date,
        wordings=(
            "Today is {date}. What date is it in {n} days?",
            "It is {date}. What date comes {n} days later?",
            "Which date is {n} days after {date}?",
            "What date is it {n} days from {date}?",
            "If it is {date} now, what is the date {n} days on?",
        ),
        unseen=("It is {date} now. Which date is it in {n} days?", "What date comes {n} days after {date}?"),
    ),
)
