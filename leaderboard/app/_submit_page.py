"""The submit page; the only module that uses gradio."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.leaderboard.app._checker import CheckOutcome
from spurious_imagenet.leaderboard.app._guard import FieldKind
from spurious_imagenet.leaderboard.app._uploads import HANDED_IN
from spurious_imagenet.process_state import environment

if TYPE_CHECKING:
    from fastapi import FastAPI


_LOG = logging.getLogger(__name__)
_STYLE = """
footer { display: none !important; }
.gradio-container { max-width: 760px !important; margin: 0 auto !important; }
#problems textarea { font-size: .95rem; line-height: 1.5; }
"""
#: Read when gradio is imported and when a page is made: nothing is told to anyone. Its folder for files, of which it
#: gets none, is one of the server's own too: the usual one may be another user's.
_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_SHARE": "False"}
_OPTIONAL = ("link", "architecture", "notes")


def mount_submit_page(
    app: FastAPI,
    submit: Callable[[IO[bytes]], CheckOutcome],
    request: Callable[[dict[str, Any], str], CheckOutcome] | None,
    *,
    name: str,
    upload: int,
    queue: int,
) -> dict[int, tuple[FieldKind, ...]]:
    """Mount the page at ``/submit``, to be served behind :class:`SubmitGuard`.

    Args:
        app: The server.
        submit: What to do with an uploaded file, which is open.
        request: What to do with the fields of a request and its sender's address; None if models cannot be asked for.
        name: Of the benchmark.
        upload: Bytes of the largest upload.
        queue: Submissions that may wait.

    Returns:
        What the fields of the page's forms hold, by the number of the form.

    Raises:
        ConfigError: Gradio is not installed.
    """
    folder = tempfile.TemporaryDirectory(prefix="spurious-board-")
    with environment({**_QUIET, "GRADIO_TEMP_DIR": folder.name}):
        try:
            import gradio as gr
        except ImportError as error:
            raise ConfigError("the submit page needs gradio: pip install 'spurious-imagenet[leaderboard]'.") from error
        with gr.Blocks(analytics_enabled=False, title=f"Submit · {name}") as page:
            gr.Markdown("[← Back to the ranking](../index.html)\n\n# Submit an entry")
            _submission_form(gr, submit, upload)
            if request is not None:
                _request_form(gr, request)
        page.queue(max_size=queue, api_open=False)
        _mount(gr, app, page, upload)
    app.state.gradio_folder = folder  # it goes with the server
    return {
        number: tuple("file" if isinstance(field, gr.File) else "text" for field in form.inputs)
        for number, form in page.fns.items()
    }


def _mount(gr: Any, app: FastAPI, page: Any, upload: int) -> None:
    fonts = ["system-ui", "sans-serif"]
    gr.mount_gradio_app(
        app,
        page,
        "/submit",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=upload,
        allowed_paths=[],
        blocked_paths=["/"],
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=gr.themes.Default(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "monospace"]),
        css=_STYLE,
    )
    page.has_launched = True  # so that gradio checks paths too, every one of which is blocked


def _submission_form(gr: Any, receive: Callable[[IO[bytes]], CheckOutcome], upload: int) -> None:
    gr.Markdown(
        f"Upload the zip that `spurious submit make` wrote (at most {upload / (1 << 20):.0f} MiB). It is checked "
        "as `spurious submit check` does, scored from its predictions, and added to the board at once."
    )
    file = gr.File(label="Submission (zip)", file_types=[".zip"], file_count="single", type="filepath")
    button = gr.Button("Submit", variant="primary")
    title = gr.Markdown(visible=False, elem_id="outcome")
    # Sentences quote what was submitted: they are shown as plain text, not as markup.
    sentences = gr.Textbox(visible=False, interactive=False, lines=3, max_lines=30, elem_id="problems")

    def submit(asked: Any, _: None) -> tuple[Any, Any, Any]:
        outcome = _received(receive, asked.request.scope.get(HANDED_IN))
        accepted = f"### Accepted\n\n[Open the entry](../models/{outcome.id}.html)"
        return *_said(gr, outcome, accepted), gr.File(value=None)

    # Gradio passes who asks to the parameter of this type, which has a name only where gradio is there.
    submit.__annotations__["asked"] = gr.Request
    button.click(
        submit, file, [title, sentences, file], concurrency_limit=1, trigger_mode="once", api_visibility="private"
    )


def _request_form(gr: Any, ask: Callable[[dict[str, Any], str], CheckOutcome]) -> None:
    gr.Markdown(
        "# Or ask for a published model\n\nA worker of the board runs a model whose weights "
        "timm, OpenCLIP or the Hub publish, and the entry counts as "
        "verified. No file and no code of yours is run. [What was asked for](../requests.html)"
    )
    fields = {
        "spec": gr.Textbox(
            label="Model", placeholder="timm:NAME, timm:hf-hub:ORG/NAME or open_clip:ARCH/WEIGHTS", elem_id="ask-spec"
        ),
        "protocol": gr.Radio(["paper", "standard"], value="standard", label="Protocol", elem_id="ask-protocol"),
        "model": gr.Textbox(label="Name", info="What to call it on the board.", elem_id="ask-model"),
        "authors": gr.Textbox(
            label="Authors", info="Who made the model; one a line.", lines=2, max_lines=8, elem_id="ask-authors"
        ),
        "training_data": gr.Textbox(label="Training data", placeholder="ImageNet-1k", elem_id="ask-training_data"),
        "licence": gr.Textbox(label="Licence", info="Of the weights.", elem_id="ask-licence"),
        "link": gr.Textbox(label="Link (optional)", placeholder="https://…", elem_id="ask-link"),
        "architecture": gr.Textbox(
            label="Architecture (optional)",
            info="timm's name, where the model does not tell.",
            elem_id="ask-architecture",
        ),
        "notes": gr.Textbox(label="Notes (optional)", lines=2, max_lines=8, elem_id="ask-notes"),
    }
    button = gr.Button("Ask for it", variant="primary")
    title = gr.Markdown(visible=False, elem_id="request-outcome")
    sentences = gr.Textbox(visible=False, interactive=False, lines=3, max_lines=30, elem_id="request-problems")

    def request(asked: Any, *values: Any) -> tuple[Any, Any]:
        given = {key: value for key, value in zip(fields, values, strict=True) if value or key not in _OPTIONAL}
        given["authors"] = [line.strip() for line in str(given["authors"]).splitlines() if line.strip()]
        client = asked.client.host if asked.client else "unknown"
        outcome = _caught(lambda: ask(given, client))
        return _said(gr, outcome, f"### Asked\n\nIt is request {(outcome.id or '')[:12]} of [these](../requests.html).")

    request.__annotations__["asked"] = gr.Request
    button.click(
        request, list(fields.values()), [title, sentences], concurrency_limit=1, trigger_mode="once",
        api_visibility="private",
    )  # fmt: skip


def _said(gr: Any, outcome: CheckOutcome, accepted: str) -> tuple[Any, Any]:
    text, done = "\n".join(outcome.sentences), outcome.id is not None
    label = "Remarks" if done else f"{len(outcome.sentences)} problem(s)"
    said = accepted if done else "### Refused\n\nNothing was added. What is wrong:"
    return gr.Markdown(said, visible=True), gr.Textbox(text, label=label, visible=bool(text))


def _received(receive: Callable[[IO[bytes]], CheckOutcome], file: IO[bytes] | None) -> CheckOutcome:
    if file is None:
        return CheckOutcome(None, ("no file was uploaded: expected a zip.",))
    return _caught(lambda: receive(file))


def _caught(take: Callable[[], CheckOutcome]) -> CheckOutcome:
    try:
        return take()
    except Exception:
        _LOG.exception("something could not be taken")
        return CheckOutcome(None, ("the board could not take it, and its keeper's log says why: try again later.",))
