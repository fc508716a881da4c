"""AGIEval by log-likelihood: ours on two workers against lm-eval alone, in the same run on the same questions.

    python tests/benchmarks/agieval.py [--limit 40] [--rounds 1] [--precision bf16|fp32]
    python tests/benchmarks/agieval.py --limit 1000     # all 2,546 questions

The tasks whose questions share passages (lsat-ar, lsat-rc, sat-en) and the others, each from an empty process with the
model's loading and the workers' start, in turn; `--limit` takes about so many questions of each task, and of a passage
all. Says, too, on how many questions both chose the same letter, and how near a tie the others were.
Bars: lm-eval's seconds / ours ≥ 1.3 where passages are shared, ≥ 1 on all together; peak memory is for the record.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from crlft_ray.evaluation.answers import Answer  # noqa: E402
from crlft_ray.evaluation.asking.pool import Asked, ask_all  # noqa: E402
from crlft_ray.evaluation.suites import Question, Suite, load_suite  # noqa: E402
from crlft_ray.evaluation.way import Way  # noqa: E402
from crlft_ray.model.find import model_folder  # noqa: E402
from tests.benchmarks._report import Bar, medians, report  # noqa: E402

BATCH, CORES = 4, 2
SHARED, OTHERS = "shared passages", "other tasks"
SHARED_BAR, ALL_BAR = 1.3, 1.0


def lm_eval_alone(model: str, rows: dict[str, list[dict[str, Any]]], precision: str, results: Any) -> None:
    """lm-eval's own model class and task in a process of its own, with both cores."""
    import datasets
    import lm_eval.evaluator
    import torch
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(CORES)

    class Task(ConfigurableTask):  # type: ignore[misc]
        def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
            self.dataset = {"test": datasets.Dataset.from_list(rows[self.config.task])}

    config = {
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "text", "doc_to_target": "gold",
        "doc_to_choice": "letters", "target_delimiter": " ", "num_fewshot": 0, "metric_list": [{"metric": "acc"}],
    }  # fmt: skip
    dtype = {"bf16": "bfloat16", "fp32": "float32"}[precision]
    language_model = HFLM(pretrained=model, dtype=dtype, batch_size=BATCH, device="cpu", softmax_dtype="float32")
    tasks = {name: Task(config={"task": name, **config}) for name in rows}
    report = lm_eval.evaluator.evaluate(lm=language_model, task_dict={"tasks": tasks, "groups": {}}, bootstrap_iters=0)
    assert report is not None
    found = {
        sample["doc"]["id"]: [float(value) for value, _ in sample["filtered_resps"]]
        for name in rows
        for sample in report["samples"][name]
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    results.put((found, peak))


def run_lm_eval(model: str, suite: Suite, precision: str) -> tuple[dict[str, list[float]], float, float]:
    """Likelihoods by task and question, seconds, and peak resident GB."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for question in suite.questions:
        gold = question.letters.index(question.gold[0]) if question.gold[0] in question.letters else -1
        row = {"id": f"{question.task} {question.id}", "text": question.text.strip(), "letters": list(question.letters)}
        rows.setdefault(question.task, []).append({**row, "gold": gold})
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=lm_eval_alone, args=(model, rows, precision, results))
    began = time.perf_counter()
    process.start()
    found, peak = results.get()
    seconds = time.perf_counter() - began
    process.join()
    return found, seconds, peak


class WorkersMemory(threading.Thread):
    """The most memory that all workers had together: what each has for itself, and what they share once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_gb, self._done = 0.0, threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.5):
            total = 0
            for process in psutil.process_iter(["cmdline"]):
                if "_Asker" in " ".join(process.info["cmdline"] or []):
                    try:
                        total += process.memory_full_info().pss
                    except psutil.Error:
                        continue
            self.peak_gb = max(self.peak_gb, total / 1e9)

    def finish(self) -> float:
        self._done.set()
        self.join()
        return self.peak_gb


def run_ours(model: str, suite: Suite, precision: Any) -> tuple[list[Answer], float, float]:
    """Answers, seconds (with the workers' start), and peak GB of both workers together."""
    answers: list[Answer] = []
    memory = WorkersMemory()
    memory.start()
    began = time.perf_counter()
    wanted = {Asked(model, suite, Way("none")): suite.questions}
    ask_all(wanted, lambda _, found: answers.extend(found), threads=1, precision=precision)
    return answers, time.perf_counter() - began, memory.finish()


def parts_of(suite: Suite, limit: int) -> dict[str, Suite]:
    """The tasks most of whose questions are on a passage with others, and the other tasks."""
    tasks: dict[str, list[Question]] = {}
    for question in suite.questions:
        tasks.setdefault(question.task, []).append(question)
    parts: dict[str, list[Question]] = {SHARED: [], OTHERS: []}
    for questions in tasks.values():
        # A question without one stands alone.
        passages = [question.text.rpartition("Q: ")[0] or question.text for question in questions]
        sizes = Counter(passages)
        together = sum(size for size in sizes.values() if size > 1)
        chosen: list[Question] = []
        for passage in sizes:
            if len(chosen) < limit:
                chosen += [each for each, its in zip(questions, passages, strict=True) if its == passage]
        parts[SHARED if 2 * together > len(questions) else OTHERS] += chosen
    return {name: replace(suite, questions=tuple(questions)) for name, questions in parts.items()}


def compare(ours: list[Answer], theirs: dict[str, list[float]]) -> list[float]:
    """Of each question that was answered by another letter, how far that letter was from a tie in ours."""
    others = []
    for answer in ours:
        values = theirs[f"{answer.task} {answer.question}"]
        chosen = answer.letters[values.index(max(values))]
        if chosen != answer.chosen:
            mine = dict(zip(answer.letters, answer.loglikelihoods, strict=True))
            others.append(abs(mine[answer.chosen] - mine[chosen]))
    return others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--limit", type=int, default=40, help="questions per task; 1000 for all")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--precision", choices=["bf16", "fp32"])
    options = parser.parse_args()
    from crlft_ray.device import native_precision
    from crlft_ray.ray_session import connect

    connect()
    precision = options.precision or native_precision()
    parts = parts_of(load_suite("agieval"), options.limit)
    seconds: dict[str, list[float]] = {f"{who}, {part}": [] for part in parts for who in ("ours", "lm-eval")}
    gb: dict[str, float] = dict.fromkeys(("ours", "lm-eval"), 0.0)
    asked, others = 0, []
    for _ in range(options.rounds):
        for name, suite in parts.items():
            ours, our_seconds, our_gb = run_ours(options.model, suite, precision)
            theirs, their_seconds, their_gb = run_lm_eval(str(model_folder(options.model)), suite, precision)
            seconds[f"ours, {name}"].append(our_seconds)
            seconds[f"lm-eval, {name}"].append(their_seconds)
            gb = {"ours": max(gb["ours"], our_gb), "lm-eval": max(gb["lm-eval"], their_gb)}
            asked += len(ours)
            others += compare(ours, theirs)
    median = medians(seconds)
    all_ours, all_theirs = (sum(median[f"{who}, {name}"] for name in parts) for who in ("ours", "lm-eval"))
    bars = [
        Bar("lm-eval / ours, shared passages", median[f"lm-eval, {SHARED}"] / median[f"ours, {SHARED}"], SHARED_BAR),
        Bar("lm-eval / ours, all", all_theirs / all_ours, ALL_BAR),
    ]
    print(", ".join(f"{len(suite.questions)} questions of {name}" for name, suite in parts.items()))
    print(f"peak GB: ours, 2 workers {gb['ours']:.2f}, lm-eval {gb['lm-eval']:.2f}")
    nearest = f"the {len(others)} others were {max(others, default=0.0):.4f} or less from a tie"
    print(f"the same letter on {1 - len(others) / asked:.2%}; {nearest}")
    title = f"AGIEval, {options.model}, {precision}, no template, batch {BATCH}"
    report("agieval", title, "s", seconds, bars, {"gb": gb, "others": others})


if __name__ == "__main__":
    main()
