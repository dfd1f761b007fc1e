"""Problems to prompts to token ids: the one place that knows templates and tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.errors import UserError
from app.recipe import RenderingSettings
from app.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_library() -> None:
    """Import what a Renderer needs. transformers fills itself in as names are asked for, which two threads at once
    break: a process whose threads render calls this before they start.
    """
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained  # noqa: B018 - the name is what loads its module


class Renderer:
    """Renders for one model. The same text gives the same ids wherever it runs.

    `template_arguments` are the chat template's own, such as enable_thinking, beside those of the settings.
    """

    def __init__(
        self,
        model_path: str,
        settings: RenderingSettings,
        revision: str | None = None,
        trust_remote_code: bool = False,
        template_arguments: dict[str, Any] | None = None,
    ) -> None:
        self.settings, self.arguments = settings, settings.template_arguments | (template_arguments or {})
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(model_path, revision, trust_remote_code)
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"{model_path}: the tokenizer names no end token (eos_token); set one in its configuration")
        if settings.template == "chat" and not self.tokenizer.chat_template:
            raise UserError(
                f"{model_path}: rendering.template is chat, but the tokenizer has no chat template; use plain"
            )

    @property
    def end_id(self) -> int:
        """The token that ends a completion."""
        return self.tokenizer.eos_token_id

    def prompt(self, statement: str) -> str:
        """The text a policy sees for a problem."""
        shots = [(self._asked(shot.statement), shot.solution) for shot in self.settings.few_shot]
        if self.settings.template == "plain":
            solved = (f"{asked}{solution.rstrip()}\n\n" for asked, solution in shots)
            return "".join([self.settings.system or "", *solved, self._asked(statement)])
        messages = [{"role": "system", "content": self.settings.system}] if self.settings.system else []
        for asked, solution in shots:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": solution}]
        return self.chat([*messages, {"role": "user", "content": self._asked(statement)}])

    def _asked(self, statement: str) -> str:
        return self.settings.prompt.replace("{statement}", statement)

    def chat(self, messages: list[dict[str, str]]) -> str:
        """The text a policy sees after messages, by the model's chat template."""
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **self.arguments
        )

    def prompt_ids(self, statement: str) -> list[int]:
        """Token ids of the prompt. A chat template writes its own special tokens; plain text gets the tokenizer's."""
        return self.encode(self.prompt(statement), self.settings.template == "chat")

    def encode(self, prompt: str, templated: bool) -> list[int]:
        """Token ids of a prompt's text, which a chat template wrote or not."""
        return self.tokenizer.encode(prompt, add_special_tokens=not templated)

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of a solution, the end token last."""
        return [*self.tokenizer.encode(text, add_special_tokens=False), self.end_id]

    def decode(self, token_ids: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=True)
