"""The plain loop that one would write: padded batches, chosen and rejected whole, the model's own logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM

from app.records import Example, PreferencePair
from app.training import adapters
from app.training.settings import LoraSettings

Sequences = list[tuple[list[int], list[int]]]  # prompt and completion


class PaddedLoop:
    """Trains step by step. Weights in bf16 have no float32 copy, which is as fast as it gets, and learns worse."""

    def __init__(
        self,
        path: str,
        rows: Sequence[Example] | Sequence[PreferencePair],
        device: torch.device,
        dtype: torch.dtype,
        batch: int,
        micro_batch: int,
        lora: LoraSettings | None,
    ) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).train()
        if lora:
            adapters.add(self.model, lora)
            self.model.to(device)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5, betas=(0.9, 0.95), fused=True)
        self.trained, self.rows, self.device = trained, rows, device
        self.batch, self.micro_batch = batch, micro_batch

    def step(self, number: int) -> float:
        """One optimiser step; returns the gradients' norm, so that all work is done."""
        first = number * self.batch
        for start in range(first, first + self.batch, self.micro_batch):
            part = self.rows[start : min(start + self.micro_batch, first + self.batch)]
            (self.loss(part) / self.batch).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def loss(self, part: Sequence[Example] | Sequence[PreferencePair]) -> torch.Tensor:
        """The sum of NLL or of DPO's loss, with a reference of zero: it is given, and costs nothing."""
        pairs = [row for row in part if isinstance(row, PreferencePair)]
        if not pairs:
            singles = [row for row in part if isinstance(row, Example)]
            return -self.log_probs([(row.prompt_token_ids, row.completion_token_ids) for row in singles]).sum()
        chosen: Sequences = [(row.prompt_token_ids, row.chosen_token_ids) for row in pairs]
        rejected: Sequences = [(row.prompt_token_ids, row.rejected_token_ids) for row in pairs]
        both = self.log_probs(chosen + rejected).view(2, -1)
        return -logsigmoid(0.1 * (both[0] - both[1])).sum()

    def log_probs(self, sequences: Sequences) -> torch.Tensor:
        """Of the completions, (sequences,)."""
        longest = max(len(p) + len(c) for p, c in sequences)
        ids = torch.zeros(len(sequences), longest, dtype=torch.long)
        mask, wanted = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (prompt, completion) in enumerate(sequences):
            size = len(prompt) + len(completion)
            ids[row, :size] = torch.tensor(prompt + completion)
            mask[row, :size] = 1
            wanted[row, len(prompt) : size] = 1
        ids, mask, wanted = (one.to(self.device) for one in (ids, mask, wanted))
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        logps = torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None])[..., 0]
        return (logps * wanted[:, 1:]).sum(1)
