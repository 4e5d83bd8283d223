"""Executes one notebook on a Jupyter kernel and keeps every output.

The Deno kernel sometimes sends the message "idle" before the last outputs of a cell, and nbclient stops listening at
"idle". This client goes on listening until nothing has come for 0.3 s, and longer while a cell has fewer outputs than
it is known to make.

usage: execute.py NOTEBOOK OUTPUT TIMEOUT_SEC '{"CELL": EXPECTED_OUTPUTS, ...}'

Writes the executed notebook to OUTPUT, also after an error. Prints one line of JSON:
{"error": null | {"cell": index, "message": text}}
"""

import json
import sys
import time
from queue import Empty

import nbformat
from jupyter_client.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.client import CellExecutionComplete

QUIET_SEC = 0.3
LATE_SEC = 5.0


class DrainingClient(NotebookClient):
    """Collects outputs that come after "idle"."""

    def __init__(self, notebook, expected, timeout_sec, **options):
        deadline = time.monotonic() + timeout_sec
        # The time is for the whole notebook, so each cell gets what is left of it.
        super().__init__(
            notebook,
            timeout_func=lambda cell: max(1, int(deadline - time.monotonic())),
            iopub_timeout=60,
            raise_on_iopub_timeout=True,
            **options,
        )
        self.expected = expected
        self.running = None

    async def async_execute_cell(self, cell, cell_index, *rest, **options):
        self.running = cell_index
        return await super().async_execute_cell(cell, cell_index, *rest, **options)

    async def _async_poll_output_msg(self, parent_msg_id, cell, cell_index):
        await super()._async_poll_output_msg(parent_msg_id, cell, cell_index)
        give_up = time.monotonic() + LATE_SEC
        while True:
            try:
                message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=QUIET_SEC))
            except Empty:
                if len(cell.outputs) >= self.expected.get(cell_index, 0) or time.monotonic() > give_up:
                    return
                continue
            if message["parent_header"].get("msg_id") == parent_msg_id:
                try:
                    self.process_message(message, cell, cell_index)
                except CellExecutionComplete:
                    pass


def main():
    source, target, timeout_sec, expected = sys.argv[1:]
    notebook = nbformat.read(source, as_version=4)
    counts = {int(cell): count for cell, count in json.loads(expected).items()}
    folder = source.rpartition("/")[0] or "."
    client = DrainingClient(
        notebook, counts, float(timeout_sec), kernel_name="deno", resources={"metadata": {"path": folder}}
    )
    error = None
    try:
        client.execute()
    except CellTimeoutError:
        error = f"took longer than the {timeout_sec} s that the notebook has"
    except CellExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}".strip()
    except DeadKernelError:
        error = "the kernel died"
    nbformat.write(notebook, target)
    print(json.dumps({"error": error and {"cell": client.running, "message": error}}))


main()
