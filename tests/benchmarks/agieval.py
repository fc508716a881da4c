"""AGIEval by log-likelihood: ours on two workers against lm-eval alone, in the same run on the same questions.

    python tests/benchmarks/agieval.py --precision fp32                # 304 questions
    python tests/benchmarks/agieval.py --precision bf16 --limit 1000   # all 2,546

Prints seconds, peak memory, on how many questions both chose the same letter, and how near a tie the others were.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import threading
import time
from typing import Any

import psutil

from crlft_ray.evaluation.answers import Answer
from crlft_ray.evaluation.asking.pool import Asked, ask_all
from crlft_ray.evaluation.suites import Suite, load_suite
from crlft_ray.evaluation.way import Way
from crlft_ray.model.find import model_folder

BATCH, CORES = 4, 2


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
    began = time.perf_counter()
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
    results.put((found, time.perf_counter() - began, peak))


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
    process.start()
    found: tuple[dict[str, list[float]], float, float] = results.get()
    process.join()
    return found


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--limit", type=int, default=38, help="questions per task; 1000 for all")
    parser.add_argument("--precision", choices=["bf16", "fp32"])
    options = parser.parse_args()
    from crlft_ray.device import native_precision
    from crlft_ray.ray_session import connect

    connect()
    precision = options.precision or native_precision()
    suite = load_suite("agieval", limit=options.limit)
    ours, our_seconds, our_gb = run_ours(options.model, suite, precision)
    theirs, their_seconds, their_gb = run_lm_eval(str(model_folder(options.model)), suite, precision)
    others = []
    for answer in ours:
        values = theirs[f"{answer.task} {answer.question}"]
        chosen = answer.letters[values.index(max(values))]
        if chosen != answer.chosen:
            mine = dict(zip(answer.letters, answer.loglikelihoods, strict=True))
            others.append(abs(mine[answer.chosen] - mine[chosen]))
    same = 1 - len(others) / len(ours)
    print(f"{len(ours)} questions, {options.model}, {precision}, no template, batch {BATCH}")
    print(f"{'':20}{'seconds':>10}{'peak GB':>10}")
    print(f"{'ours, 2 workers':20}{our_seconds:10.1f}{our_gb:10.2f}")
    print(f"{'lm-eval, 2 threads':20}{their_seconds:10.1f}{their_gb:10.2f}")
    print(f"{'ours / lm-eval':20}{our_seconds / their_seconds:10.2f}{our_gb / their_gb:10.2f}")
    nearest = f"the {len(others)} others were {max(others, default=0.0):.4f} or less from a tie"
    print(f"the same letter on {same:.2%}; {nearest}")
    figures = {"seconds": [our_seconds, their_seconds], "gb": [our_gb, their_gb], "same": same, "others": others}
    print(json.dumps({"questions": len(ours), "precision": precision, **figures}))


if __name__ == "__main__":
    main()
