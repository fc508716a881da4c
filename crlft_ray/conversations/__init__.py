"""Conversations: read from files in three formats, given a class, cleaned, identified by their content."""

from crlft_ray.conversations.conversation import Conversation, Turn

__all__ = ["Conversation", "Turn"]
