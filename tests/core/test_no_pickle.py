"""No file that is read can run code: the source has no call that would unpickle, evaluate or construct at will.

Read from the syntax tree, so that comments and `policy.eval()` do not count and a renamed import does. What reading
does with hostile files is tested beside each reader: tests/inference/test_bundle.py and test_parity.py,
tests/learning/test_checkpoint.py, tests/episodes/test_hostile_files.py, and here for configuration.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from policy_bringup.core.config import read_yaml
from policy_bringup.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("src", "launch", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "jsonpickle",
    "marshal",
    "shelve",
    "copyreg",
}
HARMLESS = {"pickle.UnpicklingError"}
CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all", "yaml.load_all"),
    *("pandas.read_pickle", "torch.package.PackageImporter", "numpy.lib.format.read_array", "os.system"),
}
MUST_SAY = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


class Scan(ast.NodeVisitor):
    """Lines of one file that could run code from a file, as `line: what`."""

    def __init__(self, text: str) -> None:
        self.found: list[str] = []
        self._names: dict[str, str] = {}
        self._safe = set(SAFE_LOADERS)
        for _ in range(2):  # a loader may be defined below its use
            self.found.clear()
            self.visit(ast.parse(text))

    def _full(self, node: ast.AST) -> str:
        """`np.load` -> "numpy.load", by the imports seen so far; "" for what is not a plain name."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (before := self._full(node.value)):
            return f"{before}.{node.attr}"
        return ""

    def _report(self, node: ast.AST, what: str) -> None:
        self.found.append(f"{node.lineno}: {what}")

    def visit_Import(self, node: ast.Import) -> None:
        for entry in node.names:
            self._names[entry.asname or entry.name.partition(".")[0]] = (
                entry.name if entry.asname else entry.name.partition(".")[0]
            )
            if entry.name.partition(".")[0] in MODULES - {"pickle"}:
                self._report(node, entry.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for entry in node.names:
            full = f"{node.module}.{entry.name}"
            self._names[entry.asname or entry.name] = full
            if (node.module or "").partition(".")[0] in MODULES and full not in HARMLESS:
                self._report(node, full)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any(self._full(base) in self._safe for base in node.bases):
            self._safe.add(node.name)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        full = self._full(node)
        if full.partition(".")[0] in MODULES and full not in HARMLESS:
            self._report(node, full)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        full = self._full(node.func)
        said = {keyword.arg: keyword.value for keyword in node.keywords}
        if full in CALLS:
            self._report(node, full)
        if full in MUST_SAY:
            name, value = MUST_SAY[full]
            if not (isinstance(said.get(name), ast.Constant) and said[name].value is value):
                self._report(node, f"{full} without {name}={value}")
        if full == "yaml.load" and self._full(said.get("Loader", node)) not in self._safe:
            self._report(node, "yaml.load without a safe loader")
        self.generic_visit(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_has_nothing_that_would_run_code_from_a_file(path: Path):
    assert Scan(path.read_text(encoding="utf-8")).found == []


def test_the_sources_were_found():
    assert len(SOURCES) > 150


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.load(stream)",
        "import pickle as p\np.loads(data)",
        "from pickle import loads",
        "from pickle import Unpickler as U",
        "import joblib",
        "import dill as pickle",
        "import cloudpickle.fast",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=flag)",
        "from torch import load as read\nread(path)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, None, True)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "from numpy import load\nload(path)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, yaml.Loader)",
        "import yaml\nyaml.load(text, Loader=yaml.FullLoader)",
        "import yaml\nyaml.unsafe_load(text)",
        "import yaml\nclass Mine(yaml.UnsafeLoader): pass\nyaml.load(text, Loader=Mine)",
        "eval(text)",
        "def f():\n    exec(text)",
        "__import__(name)",
    ],
)
def test_what_would_run_code_is_seen(text: str):
    assert Scan(text).found


@pytest.mark.parametrize(
    "text",
    [
        "# pickle.load(stream)\n'eval(x)'",
        "policy.eval()",
        "import pickle\ntry: pass\nexcept pickle.UnpicklingError: pass",
        "import torch\ntorch.load(path, map_location='cpu', weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import yaml\nclass Mine(yaml.SafeLoader): pass\nyaml.load(text, Loader=Mine)",
        "import re\nre.compile(text)",
    ],
)
def test_what_is_harmless_is_not(text: str):
    assert Scan(text).found == []


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.mkdir ['{marker}']",
        "a: !!python/object/apply:os.system ['mkdir {marker}']",
        "!!python/object/new:os.mkdir ['{marker}']",
        "a: !!python/object/apply:subprocess.call [[mkdir, '{marker}']]",
        "? !!python/object/apply:os.mkdir ['{marker}']\n: 1",
    ],
)
def test_a_configuration_with_a_python_tag_is_refused_and_runs_nothing(text: str, tmp_path: Path):
    marker, path = tmp_path / "ran", tmp_path / "hostile.yaml"
    path.write_text(text.format(marker=marker), encoding="utf-8")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_yaml(path)
    assert not marker.exists()
