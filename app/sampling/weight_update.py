"""Other weights of the same shape into a living engine: runs inside vLLM's worker, as a part of its class."""

from __future__ import annotations

from typing import Any


class WeightLoader:
    """An extension of vLLM's worker (`worker_extension_cls`)."""

    model_runner: Any  # the worker's own
    reload_weights: Any

    def load_checkpoint(self, path: str) -> None:
        """Replace the weights by those of another checkpoint of the same architecture.

        vLLM's own reload leaves an output head that is tied to the embeddings as it was: on the CPU the head keeps a
        packed copy. So it is tied and packed again here.
        """
        self.reload_weights(weights_path=path)
        model = self.model_runner.get_model()
        head = getattr(model, "lm_head", None)
        if head is not None and self.model_runner.model_config.hf_config.tie_word_embeddings:
            head.tie_weights(model.model.embed_tokens)
            head.quant_method.process_weights_after_loading(head)
