"""vLLM as an Engine. The only file that imports vllm, and only in the process of app/sampling/engine_server.py."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError
from app.policy import Policy
from app.sampling.engine import Completion, Engine, Request, check_fits
from app.sampling.engine_client import EngineProcess
from app.sampling.meter import Meter
from app.sampling.settings import EnginePlacement, Speculation
from app.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.llm_engine import LLMEngine

GIB = 2**30
ADAPTERS = 4  # that may be in one batch; others wait for their turn
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Tokens of a cache block on CPUs. vLLM's 128 there keeps nothing of a prompt shorter than that, and its attention reads
# whole blocks; its CPU backend prefers multiples of 32.
CPU_BLOCK = 32
# Tokens of a step on GPUs, the least that vLLM's offline class takes there. Left out, they would be 2,048.
BATCHED = 8192
# This process is the engine's own already: it needs none beside it.
ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}


def create(policy: Policy, place: EnginePlacement, revision: str | None, trust_remote_code: bool) -> VllmEngine:
    """The backend `vllm`."""
    return VllmEngine(policy.path, place, revision, trust_remote_code, policy.adapter)


class VllmEngine(Engine):
    """vLLM in a process of its own: continuous batching over all requests awaited at once, prefix caching on.

    Args:
        model: a model folder or hub name.
        placement: devices and memory.
        revision, trust_remote_code: as in the recipe's `model`.
        adapter: folder of a LoRA adapter on this model, which answers all requests; see also `serving`.

    Raises:
        UserError: the model cannot be served as asked (context, type).
    """

    steps = "app.sampling.vllm:LlmSteps"

    def __init__(
        self,
        model: str,
        placement: EnginePlacement,
        revision: str | None = None,
        trust_remote_code: bool = False,
        adapter: str | None = None,
    ) -> None:
        given = engine_arguments(placement, adapter) | {
            "model": model,
            "revision": revision,
            "tokenizer_revision": revision,
            "trust_remote_code": trust_remote_code,
        }
        environment = ENVIRONMENT | ({} if placement.gpus else cpu_environment(placement))
        try:
            self.process = EngineProcess(self.steps, given, environment, placement.stall_seconds)
        except UserError as error:
            raise UserError(f"{model}: vLLM cannot serve it as placement.sampling asks: {error}") from error
        except RuntimeError as error:
            raise RuntimeError(f"{model}: vLLM's engine does not start: {error}") from error
        self.adapter = adapter
        self.context_length = self.process.facts["context_length"]
        self.meter = Meter()
        self._tokenizer: Any = load_tokenizer(model, revision, trust_remote_code)

    def serving(self, adapter: str | None) -> VllmEngine:
        """The same engine, answering with another adapter, or with none; both may be used at once.

        Only for an engine that was built with an adapter, of at least this one's rank.
        """
        other = copy(self)
        other.adapter = adapter
        return other

    def parameters(self, request: Request) -> dict[str, Any]:
        """A request as arguments of vLLM's SamplingParams. Raises PromptTooLong."""
        return {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "max_tokens": check_fits(request, self.context_length),
            "detokenize": False,
            **request.cut,
        }

    async def generate(self, request: Request) -> Completion:
        """Write one continuation; see Engine. The text is decoded once, at the end."""
        parameters, prompt = self.parameters(request), list(request.prompt_token_ids)
        with self.meter.request() as span:
            tokens, _, reason = await self.process.generate(prompt, parameters, self.adapter)
            self.meter.wrote(len(tokens))
        if reason not in ("stop", "length"):
            raise RuntimeError(f"request {request.id}: vLLM finished it with {reason!r}")
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return Completion(tuple(tokens), text, reason, span.seconds)

    async def load_weights(self, path: str) -> None:
        """Serve another checkpoint of the same architecture from now on. No request may be under way."""
        if self.meter.active:
            raise RuntimeError(f"load_weights({path}) while {self.meter.active} requests are under way")
        await self.process.call("load_weights", path)

    async def close(self) -> None:
        """End the engine's process and wait for it."""
        self.process.close()


class LlmSteps:
    """vLLM's LLMEngine as a Stepper. Lives in the engine's process."""

    def __init__(self, **arguments: Any) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind, SamplingParams
        from vllm.utils.system_utils import set_process_title
        from vllm.v1.engine.llm_engine import LLMEngine

        set_process_title("EngineCore")
        try:
            config = EngineArgs(**arguments).create_engine_config()
        except ValueError as error:  # pydantic's validation errors among them
            raise UserError(str(error)) from error
        self.llm: LLMEngine = LLMEngine.from_vllm_config(config, disable_log_stats=True)
        self._parameters, self._final, self._lora = SamplingParams, RequestOutputKind.FINAL_ONLY, LoRARequest
        self._adapters: dict[str, LoRARequest] = {}

    def describe(self) -> dict[str, Any]:
        return {"context_length": self.llm.model_config.max_model_len}

    def add(self, name: str, prompt: list[int], parameters: dict[str, Any], adapter: str | None) -> None:
        if adapter and adapter not in self._adapters:
            self._adapters[adapter] = self._lora(adapter, len(self._adapters) + 1, adapter)
        asked = self._parameters(**parameters, output_kind=self._final)
        lora = self._adapters[adapter] if adapter else None
        self.llm.add_request(name, {"prompt_token_ids": prompt}, asked, lora_request=lora)

    def abort(self, name: str) -> None:
        self.llm.abort_request([name])

    def busy(self) -> bool:
        return self.llm.has_unfinished_requests()

    def step(self) -> list[tuple[str, Any]]:
        finished = []
        for request in self.llm.step():  # only finished ones, each with one output
            [output] = request.outputs
            finished.append((request.request_id, (output.token_ids, output.text, output.finish_reason)))
        return finished

    def load_weights(self, path: str) -> None:
        # Before the weights change: nothing is computed in between, and a refusal leaves the engine as it was.
        if not self.llm.reset_prefix_cache():
            raise RuntimeError(f"load_weights({path}): requests still hold the cache, which belongs to the old weights")
        self.llm.collective_rpc("load_checkpoint", args=(path,))


def cpu_environment(placement: EnginePlacement) -> dict[str, str]:
    """Variables that vLLM's CPU build reads at import, as measured on two shared cores.

    No further process beside the engine's own. No thread binding: bound to one core beside others, it was seven times
    slower. OpenMP threads spin at barriers, so more of them than idle cores cost a factor of ten.
    """
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(placement.threads),
    }


def engine_arguments(placement: EnginePlacement, adapter: str | None = None) -> dict[str, Any]:
    """What the placement and an adapter ask for, in vLLM's words."""
    arguments: dict[str, Any] = {
        "load_format": "safetensors",  # never a pickle
        "dtype": placement.dtype,
        "enforce_eager": placement.eager,
        "max_num_seqs": placement.max_num_seqs,
        "max_model_len": placement.max_model_len,
        "enable_prefix_caching": True,
        "worker_extension_cls": "app.sampling.weight_update.WeightLoader",
        "disable_log_stats": True,
        "generation_config": "vllm",  # sampling is what the recipe says, not what the model's folder suggests
    }
    if placement.max_num_batched_tokens:
        arguments["max_num_batched_tokens"] = placement.max_num_batched_tokens
    if placement.gpus:
        arguments |= {"gpu_memory_utilization": placement.memory, "tensor_parallel_size": max(1, int(placement.gpus))}
        arguments |= gpu_arguments(placement)
    else:
        arguments["kv_cache_memory_bytes"] = int(placement.kv_cache_gib * GIB)
        arguments["block_size"] = CPU_BLOCK
        # A seeded request whose prompt is cut into chunks ends the engine ("CPU Generator does not use offset").
        arguments["enable_chunked_prefill"] = False
    if placement.speculative:
        arguments["speculative_config"] = speculation(placement.speculative)
    if adapter:
        arguments |= {"enable_lora": True, "max_loras": ADAPTERS, "max_lora_rank": lora_rank(adapter)}
    return arguments | placement.engine_args


def gpu_arguments(placement: EnginePlacement) -> dict[str, Any]:
    """What a placement says of GPUs alone."""
    asked = {
        "max_num_batched_tokens": placement.max_num_batched_tokens or batched_tokens(placement),
        "enable_chunked_prefill": placement.chunked_prefill,
        "cudagraph_capture_sizes": list(placement.cuda_graph_sizes) or None,
        "kv_cache_dtype": None if placement.kv_cache_dtype == "auto" else placement.kv_cache_dtype,
        "quantization": placement.quantization,
    }
    return {name: value for name, value in asked.items() if value is not None}


def batched_tokens(placement: EnginePlacement) -> int:
    """Tokens of a step where nothing is said: enough for a sequence of each request, and for the longest prompt where
    prompts are not cut.
    """
    longest = placement.max_model_len or 0 if placement.chunked_prefill is False else 0
    return max(BATCHED, placement.max_num_seqs, longest)


def speculation(asked: Speculation) -> dict[str, Any]:
    """vLLM's speculative_config."""
    if asked.model:
        return {"method": "draft_model", "model": asked.model, "num_speculative_tokens": asked.tokens}
    return {"method": "ngram", "num_speculative_tokens": asked.tokens, "prompt_lookup_max": asked.lookup}


def lora_rank(adapter: str) -> int:
    """The least rank that vLLM offers and that this adapter fits into. Raises UserError where it fits none."""
    rank = json.loads(Path(adapter, "adapter_config.json").read_text())["r"]
    fitting = [offered for offered in LORA_RANKS if offered >= rank]
    if not fitting:
        raise UserError(
            f"{adapter}: a LoRA adapter of rank {rank}; vLLM serves up to {LORA_RANKS[-1]}: merge it instead"
        )
    return fitting[0]
