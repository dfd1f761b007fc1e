"""vLLM as an Engine. The only file that imports vllm, and only when an engine is built: the environment comes first."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from app.errors import UserError
from app.sampling.engine import Completion, Engine, EngineDead, Request, check_fits
from app.sampling.lastwords import LastWords
from app.sampling.meter import Meter
from app.sampling.settings import EnginePlacement

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

GIB = 2**30


def cpu_environment(placement: EnginePlacement) -> dict[str, str]:
    """Variables vLLM's CPU build reads at import, as measured on two shared cores.

    No separate worker process: the engine starts in half the time. No thread binding: bound to one core beside its
    own parent, that same process was seven times slower. OpenMP threads spin at barriers, so more of them than idle
    cores cost a factor of ten.
    """
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(placement.threads),
    }


class VllmEngine(Engine):
    """vLLM's AsyncLLM: continuous batching over all requests awaited at once, prefix caching on.

    Args:
        model: a model folder or hub name.
        placement: devices and memory.
        revision, trust_remote_code: as in the recipe's `model`.

    Raises:
        UserError: the model cannot be served as asked (context, type).
    """

    def __init__(
        self,
        model: str,
        placement: EnginePlacement,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        os.environ.update({} if placement.gpus else cpu_environment(placement))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments: dict[str, Any] = {
            "model": model,
            "revision": revision,
            "tokenizer_revision": revision,
            "trust_remote_code": trust_remote_code,
            "dtype": placement.dtype,
            "enforce_eager": placement.enforce_eager,
            "max_num_seqs": placement.max_num_seqs,
            "max_model_len": placement.max_model_len,
            "enable_prefix_caching": True,
            "worker_extension_cls": "app.sampling.reload.WeightLoader",
            "disable_log_stats": True,
            "generation_config": "vllm",  # sampling is what the recipe says, not what the model's folder suggests
        }
        if placement.gpus:
            arguments["gpu_memory_utilization"] = placement.gpu_memory
            arguments["tensor_parallel_size"] = max(1, int(placement.gpus))
        else:
            arguments["kv_cache_memory_bytes"] = int(placement.kv_cache_gib * GIB)
            # A seeded request whose prompt is cut into chunks ends the engine ("CPU Generator does not use offset").
            arguments["enable_chunked_prefill"] = False
        words = LastWords()
        try:
            with words:
                self.llm: AsyncLLM = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        except ValueError as error:  # pydantic's validation errors among them
            raise UserError(f"{model}: vLLM cannot serve it as placement.sampling asks: {error}") from error
        except RuntimeError as error:  # the engine's process ended; why, only its standard error tells
            raise RuntimeError(f"{model}: vLLM's engine does not start: {words.error() or error}") from error
        self.context_length = self.llm.model_config.max_model_len
        self.meter = Meter()
        self._stall, self._watching, self._last_finish = placement.stall_seconds, False, 0.0
        self._tokenizer = self.llm.get_tokenizer()

    def parameters(self, request: Request) -> SamplingParams:
        """A request in vLLM's words. Raises PromptTooLong."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        return SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            max_tokens=check_fits(request, self.context_length),
            stop=list(request.stop),
            detokenize=bool(request.stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def generate(self, request: Request) -> Completion:
        """Write one continuation; see Engine. The text is decoded once at the end, where no stop text is asked for."""
        from vllm.v1.engine.exceptions import EngineDeadError

        parameters, final = self.parameters(request), None
        self._watch()
        with self.meter.request() as span:
            try:
                prompt = {"prompt_token_ids": list(request.prompt_token_ids)}
                async for output in self.llm.generate(prompt, parameters, request.id):
                    final = output
            except EngineDeadError as error:
                raise EngineDead(f"vLLM's engine process ended: {error}") from error
        self._last_finish = time.monotonic()
        if final is None or len(final.outputs) != 1:
            raise RuntimeError(f"request {request.id}: vLLM ended it without an output")
        [output] = final.outputs
        if output.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"request {request.id}: vLLM finished it with {output.finish_reason!r}")
        text = output.text if request.stop else self._tokenizer.decode(output.token_ids, skip_special_tokens=True)
        return Completion(tuple(output.token_ids), text, output.finish_reason, span.seconds)

    def _watch(self) -> None:
        """While there is work, look now and then whether any request finishes; a hanging engine is made a dead one."""
        if not self._watching:
            self._watching, self._last_finish = True, time.monotonic()
            asyncio.get_running_loop().call_later(self._stall / 4, self._look)

    def _look(self) -> None:
        if self.meter.active == 0:
            self._watching = False
        elif time.monotonic() - self._last_finish < self._stall:
            asyncio.get_running_loop().call_later(self._stall / 4, self._look)
        else:
            for process in self.processes():
                process.kill()

    def processes(self) -> list[BaseProcess]:
        """The engine's own processes, children of this one."""
        return list(self.llm.engine_core.resources.engine_manager.processes)

    async def load_weights(self, path: str) -> None:
        """Serve another checkpoint of the same architecture from now on. No request may be under way."""
        if self.meter.active:
            raise RuntimeError(f"load_weights({path}) while {self.meter.active} requests are under way")
        await self.llm.collective_rpc("load_checkpoint", args=(path,))
        await self.llm.reset_prefix_cache()

    async def close(self) -> None:
        """End the engine's process and wait for it."""
        self.llm.shutdown(timeout=1)
        del self.llm  # its __del__ would shut down again, at interpreter exit, when half of it is gone
