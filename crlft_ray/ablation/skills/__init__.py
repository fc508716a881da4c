"""The skills of the world, one module each."""

from crlft_ray.ablation.skills import addition, dates, lists, strings, subtraction, table, units
from crlft_ray.ablation.skills.exercise import Exercise, Skill

SKILLS: tuple[Skill, ...] = (
    *addition.SKILLS,
    *subtraction.SKILLS,
    *strings.SKILLS,
    *lists.SKILLS,
    *table.SKILLS,
    *dates.SKILLS,
    *units.SKILLS,
)

__all__ = ["SKILLS", "Exercise", "Skill"]
