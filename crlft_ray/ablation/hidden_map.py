"""Where conversations lie in a model: mean hidden states, in two dimensions, by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crlft_ray.ablation.world import Sample

Points = npt.NDArray[np.float64]
_BATCH = 100


def mean_hidden_states(export: str, samples: Sequence[Sample], conditioned: bool) -> Points:
    """The last layer's states, averaged over a conversation's tokens (float64, conversations × hidden size).

    Args:
        export: model folder.
        samples: conversations.
        conditioned: whether each is put under its class's condition, as in the training.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(export, padding_side="right")
    model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32).eval()
    texts = []
    for sample in samples:
        row = sample.row()["messages"]
        named = {"condition": sample.tag} if conditioned else {}
        texts.append(tokenizer.apply_chat_template(row, tokenize=False, **named))
    means = []
    for first in range(0, len(texts), _BATCH):
        inputs = tokenizer(texts[first : first + _BATCH], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            hidden_BTD = model(**inputs, output_hidden_states=True).hidden_states[-1]
        mask_BTU = inputs["attention_mask"].unsqueeze(-1)
        means.append((hidden_BTD * mask_BTU).sum(1) / mask_BTU.sum(1))
    return np.asarray(torch.cat(means).double().numpy())


def flat(points_CD: Points) -> dict[str, Points]:
    """The points in two dimensions, by PCA and by t-SNE (on the first 30 principal components)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    components = PCA(min(30, *points_CD.shape), random_state=0).fit_transform(points_CD)
    return {"PCA": components[:, :2], "t-SNE": TSNE(2, random_state=0, init="pca").fit_transform(components)}


def separation(points_CD: Points, classes: Sequence[str]) -> float:
    """Silhouette of the classes in the full space: 1 for apart, 0 for mixed."""
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(points_CD, list(classes)))
