"""Templates: the text around a question, and the form in which a completion gives its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from gridzero.envs.suggestions import closest

Form = Literal["tags", "last-line"]

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
MAX_COMPLETION = 1 << 21
"""Characters; a longer completion is not looked at."""
MAX_ANSWER = 2_000
"""Characters, white space around it included; a longer answer is not looked at."""

_BLANK = " \t\r\n"
_MAX_BLANK = 1_000
_SPACED_SIGN = re.compile(r"(?<![ \t])[ \t]*([^\w\s])[ \t]*")
_THINK, _END_THINK, _ANSWER, _END_ANSWER = TAGS


class CutOff(str):
    """A completion, or the end of one, that its writer had not ended when a limit cut it off; else text as any other.

    Example:
        >>> isinstance("so it is " + CutOff("1"), CutOff)
        True
    """

    __slots__ = ()

    def __radd__(self, before: str) -> CutOff:
        return CutOff(f"{before}{self}")


class Extraction(NamedTuple):
    """Reading of a completion by a template: the answer (None without one), whether the form is kept, and why not."""

    answer: str | None
    well_formed: bool
    reason: str


@dataclass(frozen=True)
class Template:
    r"""Form of a prompt and of the completion that answers it.

    Attributes:
        name: what it is called.
        before: the text before the question.
        after: the text after it; where it ends in ``<think>``, completions begin inside the thought.
        form: "tags": ``<think>…</think> <answer>…</answer>`` and nothing else but white space; "last-line": the answer
            is the last line that is not blank, or what it adds to the question where it says that again; a
            completion that was cut off has none, since the line may have gone on.
        explains: whether prompts say in words what is asked, for models that were not made for the task.
        is_conversation: whether a prompt is a conversation in words already, so that no chat template goes around it.

    Raises:
        ValueError: for an unknown form.

    Example:
        >>> template = find_template("tags")
        >>> template.prompt("1+1=")
        '1+1=\n'
        >>> template.extract("<think>1 and 1</think> <answer>2</answer>")
        Extraction(answer='2', well_formed=True, reason='')
        >>> template.extract("<answer>2</answer>")
        Extraction(answer='2', well_formed=False, reason='there is no thought')
        >>> template.extract("<think></think> <answer>2</answer> <answer>3</answer>").answer
        >>> find_template("plain").extract("That is easy:\n8 + 6 = 14", "8+6=")
        Extraction(answer='14', well_formed=True, reason='')
    """

    name: str
    before: str = ""
    after: str = "\n"
    form: Form = "tags"
    explains: bool = False
    is_conversation: bool = False

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise ValueError(f"a template's form must be one of {', '.join(get_args(Form))}, not {self.form!r}")

    @property
    def opened(self) -> bool:
        """Whether the prompt has opened the thought already."""
        return self.form == "tags" and self.after.rstrip(_BLANK).endswith(_THINK)

    def prompt(self, question: str) -> str:
        """The question in its text."""
        return self.before + question + self.after

    def next_prompt(self, text: str) -> str:
        """Reply of a task as the next turn of the conversation: on a new line, in the form of the prompt."""
        return "\n" + self.before.rpartition("\n")[2] + text + self.after

    def completion(self, thought: str, answer: str) -> str:
        """A well-formed completion."""
        if self.form == "last-line":
            return f"{thought}\n{answer}" if thought else answer
        return ("" if self.opened else _THINK) + f"{thought}{_END_THINK} {_ANSWER}{answer}{_END_ANSWER}"

    def extract(self, completion: str, question: str = "") -> Extraction:
        """Find the answer of a completion, whatever it is: never raises, in time linear in its length.

        Args:
            completion: the text, :class:`CutOff` where it was.
            question: what it answers; one that ends in ``=`` may stand before the answer in the last line.

        The answer and the form are apart: an answer counts if it is the only one and is not part of the thought, even
        where the form is not kept. Tags are these exact characters; anything like them is text.
        """
        if len(completion) > MAX_COMPLETION:
            return Extraction(None, False, f"the completion is longer than {MAX_COMPLETION:,} characters")
        if self.form == "tags":
            extraction = _between_tags(_THINK + completion if self.opened else completion)
        elif isinstance(completion, CutOff):
            return Extraction(None, False, "the completion was cut off")
        else:
            extraction = _last_line(completion)
        if extraction.answer is None:
            return extraction
        if len(extraction.answer) > MAX_ANSWER:
            return Extraction(None, extraction.well_formed, f"the answer is longer than {MAX_ANSWER:,} characters")
        answer = extraction.answer.strip(_BLANK)
        if self.form == "last-line":
            answer = _without_question(answer, question)
        return extraction._replace(answer=answer) if answer else Extraction(None, False, "the answer is empty")


def _last_line(text: str) -> Extraction:
    end = text[-MAX_ANSWER - 1 :].rstrip(_BLANK)
    _, newline, line = end.rpartition("\n")
    if end and not newline and len(text) > MAX_ANSWER + 1:  # the line may have begun before
        line = text[-MAX_ANSWER - 1 :]
    return Extraction(line, True, "")


def _without_question(line: str, question: str) -> str:
    """Remove a repeated question, one that ends in ``=``, from the beginning of a line; other lines stay as they are.

    Nothing but blanks around signs may differ: of any other equation it is not known whether it is true.
    """
    if not question.endswith("="):
        return line
    parts = line.split("=", question.count("="))
    said, answer = "=".join(parts[:-1]) + "=", parts[-1].strip(_BLANK)
    return answer if _SPACED_SIGN.sub(r"\1", said) == _SPACED_SIGN.sub(r"\1", question) else line


def _between_tags(text: str) -> Extraction:
    counts = [text.count(tag) for tag in TAGS]
    if max(counts) > 1:
        return Extraction(None, False, f"there are several {TAGS[counts.index(max(counts))]}")
    if not (counts[2] and counts[3]):
        return Extraction(None, False, f"there is no {_ANSWER if not counts[2] else _END_ANSWER}")
    thought, end_thought, start, end = (text.find(tag) for tag in TAGS)
    if end < start:
        return Extraction(None, False, f"{_END_ANSWER} comes before {_ANSWER}")
    if thought >= 0 and end_thought < 0:
        return Extraction(None, False, "the thought does not end")
    if max(thought, end_thought) > start:
        return Extraction(None, False, "the answer is not after the thought")
    if thought > end_thought:
        return Extraction(None, False, f"{_END_THINK} comes before {_THINK}")
    answer = text[start + len(_ANSWER) : end]
    if end_thought < 0:
        return Extraction(answer, False, "there is no thought")
    if thought < 0:
        return Extraction(answer, False, "the thought does not begin")
    outside = text[:thought], text[end_thought + len(_END_THINK) : start], text[end + len(_END_ANSWER) :]
    if any(len(part) > _MAX_BLANK or part.strip(_BLANK) for part in outside):
        return Extraction(answer, False, "there is text outside thought and answer")
    return Extraction(answer, True, "")


TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template("tags"),
        Template(
            "r1-zero",
            before="A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
            "The assistant first thinks about the reasoning process in the mind and then provides the user with the "
            "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
            "tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>.\n"
            "User: ",
            after="\nAssistant:",
            explains=True,
            is_conversation=True,
        ),
        Template("plain", form="last-line"),
        Template("question", form="last-line", explains=True),
    )
}
"""By name. "tags": the question alone; "r1-zero": the conversation of DeepSeek-R1-Zero (DeepSeek-AI, 2025, table 1), in
lines; both answer in tags. "plain": no tags. "question": no tags either, but words that say what is asked."""


def find_template(template: str | Template) -> Template:
    """A template, by name or itself.

    Raises:
        ValueError: for an unknown name; the message has the closest right ones.
    """
    if isinstance(template, Template):
        return template
    if template not in TEMPLATES:
        raise ValueError(f"no template is called {template!r}; {closest(str(template), TEMPLATES)}")
    return TEMPLATES[template]
