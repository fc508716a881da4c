"""lm-eval's Hugging Face model, told how to compare answer letters: exact ids, and passages computed once.

Imports torch and lm-eval at its top: import it inside functions.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import DynamicCache, StoppingCriteriaList

from crlft_ray.evaluation.asking.attention import BLOCK, next_whole, padded_widths, register, whole_blocks
from crlft_ray.model.shape import unlike_ours

_log = logging.getLogger(__name__)


class LetterLM(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """What differs from lm-eval's class.

    Prompt and letter are tokenised as one string, as in training, and what a question's letters have in common is the
    context. (lm-eval tokenises twice and moves white space over, so that other tokens than the letter's may count.)
    BOS comes first exactly once if the tokenizer uses one, whoever wrote it.
    Of a passage that several questions share, whole blocks are computed once, and logits only where a letter is read;
    the numbers are those that lm-eval gets for all questions of a suite, to the last bit in bf16 on CPUs, whichever of
    them are asked here.
    Written answers to questions with letters end with the first letter that decides.
    """

    _widths: Mapping[tuple[int, ...], int] = MappingProxyType({})
    _by_rows = False
    """Whether attention is that of `attention.py` now."""

    def prompt(self, text: str, *, template: bool) -> str:
        """A question as it is put to the model."""
        return str(self.apply_chat_template([{"role": "user", "content": text}])) if template else text

    def widths_among(self, prompts: Sequence[str]) -> Mapping[tuple[int, ...], int]:
        """The width at which each prompt, by its ids, is computed if these are all there are."""
        return padded_widths(self._encode_all(prompts), self.batch_size)

    def use_widths(self, widths: Mapping[tuple[int, ...], int]) -> None:
        """From now on letters are compared at these widths; contexts that are not in it at their own."""
        self._widths = widths

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-likelihood of each request's continuation after its context, and whether it is the likeliest one."""
        ids = self._encode_all(["".join(request.args) for request in requests])
        asked: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            asked.setdefault(request.args[0], []).append(number)
        results: dict[int, tuple[float, bool]] = {}
        contexts: list[list[int]] = []
        readers: list[list[int]] = []
        for numbers in asked.values():
            shared = _common_length([ids[number] for number in numbers])
            if all(len(ids[number]) == shared + 1 for number in numbers):
                contexts.append(ids[numbers[0]][:shared])
                readers.append(numbers)
            else:
                # The tokenizer merges some letter with what stands before it, or needs several tokens for it.
                pairs = [(requests[number].args, ids[number][:shared], ids[number][shared:]) for number in numbers]
                results.update(zip(numbers, self._loglikelihood_tokens(pairs, disable_tqdm=True), strict=True))
        for index, logprobs_V in self._next_token(contexts):
            best = int(logprobs_V.argmax())
            for number in readers[index]:
                letter = ids[number][-1]
                results[number] = (float(logprobs_V[letter]), letter == best)
        return [results[number] for number in range(len(requests))]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Greedy answers; those whose settings have `letters` end with the verdict, and have BOS exactly once."""
        if not all(request.args[1].get("letters") for request in requests):
            texts: list[str] = super().generate_until(requests, disable_tqdm=True)
            return texts
        ids = self._encode_all([request.args[0] for request in requests])
        found: dict[int, str] = {}
        order = sorted(range(len(requests)), key=lambda number: -len(ids[number]))
        for first in range(0, len(order), self.batch_size):
            batch = order[first : first + self.batch_size]
            longest = int(requests[batch[0]].args[1]["max_gen_toks"])
            verdicts = [requests[number].doc["verdicts"] for number in batch]
            answers = self._write([ids[number] for number in batch], verdicts, longest)
            found.update(zip(batch, answers, strict=True))
        return [found[number] for number in range(len(requests))]

    @torch.inference_mode()
    def _write(self, rows: list[list[int]], verdicts: list[str], longest: int) -> list[str]:
        rows = [row[-(self.max_length - 1) :] for row in rows]
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        tokens_BT = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])

        def texts(ids_BT: torch.Tensor) -> list[str]:
            return list(self.tokenizer.batch_decode(ids_BT[:, width:], skip_special_tokens=True))

        def decided(ids_BT: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            written = zip(texts(ids_BT), verdicts, strict=True)
            return torch.tensor(
                [any(sign in allowed for sign in text) for text, allowed in written], device=self.device
            )

        output_BT = self.model.generate(
            input_ids=tokens_BT.to(self.device),
            attention_mask=mask_BT.to(self.device),
            max_new_tokens=min(longest, self.max_length - width),
            do_sample=False,
            pad_token_id=pad,
            stopping_criteria=StoppingCriteriaList([decided]),
        )
        return texts(output_BT)

    def _encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        bos = self.tokenizer.bos_token_id
        adds_bos = bos is not None and bos in self.tokenizer("").input_ids
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids
        return [[bos, *row] if adds_bos and row[:1] != [bos] else row for row in ids]

    def _next_token(self, contexts: list[list[int]]) -> Iterator[tuple[int, torch.Tensor]]:
        """Each context's number and its fp32 log-probabilities of the next token, in no particular order."""
        room = self.max_length
        cut = sum(len(context) > room for context in contexts)
        if cut:
            _log.warning("%d question(s) are longer than the model's %d tokens: cut at their start", cut, room)
        widths = [min(room, self._widths.get(tuple(context), len(context))) for context in contexts]
        contexts = [context[-room:] for context in contexts]
        size = self.batch_size
        with self._rowwise(max(widths, default=0)):
            for shared, family in families(contexts):
                # What lies beyond the whole blocks of a row depends on the row's width, and is computed with it.
                shared = min(shared, *(whole_blocks(widths[index]) for index in family))
                past = self._cache(contexts[family[0]][:shared]) if shared else None
                # A model that keeps another state than keys and values reads the passage anew for each question.
                start = shared if past is not None else 0
                for first in range(0, len(family), size):
                    batch = family[first : first + size]
                    rows = [contexts[index][start:] for index in batch]
                    yield from zip(batch, self._last(rows, [widths[index] for index in batch], past), strict=True)

    @contextlib.contextmanager
    def _rowwise(self, longest: int) -> Iterator[None]:
        """Attention is that of `attention.py` meanwhile, if it computes what the model's own does at this length."""
        usual = self.model.config._attn_implementation
        self._by_rows = usual == "sdpa" and unlike_ours(self.model.config, longest) is None
        if self._by_rows:
            self.model.set_attn_implementation(register())
        try:
            yield
        finally:
            if self._by_rows:
                self.model.set_attn_implementation(usual)

    @torch.inference_mode()
    def _cache(self, prefix: Sequence[int]) -> DynamicCache | None:
        tokens_1T = torch.tensor([prefix], device=self.device)
        width = next_whole(len(prefix))
        output = self.model(input_ids=tokens_1T, use_cache=True, **self._keep(torch.tensor([0])), **self._wide([width]))
        past = getattr(output, "past_key_values", None)
        return past if isinstance(past, DynamicCache) else None

    @torch.inference_mode()
    def _last(self, rows: list[list[int]], widths: list[int], past: DynamicCache | None) -> torch.Tensor:
        """Log-probabilities after each row's last token; `past` is what stands before all of them."""
        # Padded at the end: causal attention never looks there, so no mask is needed and the fast kernels stay usable.
        tokens_BT = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        ends_B = torch.tensor([len(row) - 1 for row in rows])
        kept, where_B = torch.unique(ends_B, return_inverse=True)
        if past is not None:
            past = copy.deepcopy(past)  # the forward pass writes into it
            past.batch_repeat_interleave(len(rows))
        logits_BKV: torch.Tensor = self.model(
            input_ids=tokens_BT.to(self.device),
            past_key_values=past,
            use_cache=past is not None,
            **self._keep(kept),
            **self._wide(widths),
        ).logits
        at_B = where_B if self._keep(kept) else ends_B
        return logits_BKV[torch.arange(len(rows)), at_B].float().log_softmax(-1).cpu()

    def _wide(self, widths: list[int]) -> dict[str, list[int]]:
        return {"row_widths": widths} if self._by_rows else {}

    def _keep(self, positions: torch.Tensor) -> dict[str, torch.Tensor]:
        """Asks the model for these positions' logits only, if it can be asked."""
        known = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        return {"logits_to_keep": positions.to(self.device)} if known else {}


def families(contexts: Sequence[list[int]]) -> list[tuple[int, list[int]]]:
    """Groups contexts that start alike: (tokens in common, numbers of the contexts, longest first).

    Contexts that share less than a block of attention come last, as one group with 0 tokens in common.
    """
    found: list[tuple[int, list[int]]] = []
    # In lexical order, contexts with the same beginning are neighbours.
    for index in sorted(range(len(contexts)), key=lambda index: contexts[index]):
        context = contexts[index]
        if found:
            shared, family = found[-1]
            common = _common_length([contexts[family[0]][:shared], context])
            # Half: what all questions share (a system text) must not keep those on one passage apart.
            if common >= max(BLOCK, len(context) / 2) and common * len(family) > shared * (len(family) - 1):
                found[-1] = (common, [*family, index])
                continue
        found.append((len(context), [index]))
    alone = [family[0] for _, family in found if len(family) == 1]
    groups = [*((shared, family) for shared, family in found if len(family) > 1), *([(0, alone)] if alone else [])]
    return [(shared, sorted(family, key=lambda index: -len(contexts[index]))) for shared, family in groups]


def _common_length(sequences: Sequence[list[int]]) -> int:
    """How many ids the sequences have in common at their start, leaving each at least one of its own."""
    columns = zip(*sequences, strict=False)
    alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return min(alike, min(map(len, sequences)) - 1)
