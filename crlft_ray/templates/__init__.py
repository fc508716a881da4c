"""Conversations as ids: chat templates with conditions, and the tokenizer that goes with them."""

from crlft_ray.templates.encode import Encoded, encode
from crlft_ray.templates.tokenizer import ChatTokenizer, load_chat_tokenizer

__all__ = ["ChatTokenizer", "Encoded", "encode", "load_chat_tokenizer"]
