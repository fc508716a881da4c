"""The skills of the world, one module each."""

from crlft_ray.ablation.skills import addition, lists, strings, table
from crlft_ray.ablation.skills.exercise import Exercise, Skill

SKILLS: tuple[Skill, ...] = (*addition.SKILLS, *strings.SKILLS, *lists.SKILLS, *table.SKILLS)

__all__ = ["SKILLS", "Exercise", "Skill"]
