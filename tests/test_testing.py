"""`mirembed.testing` as its page describes it: names, checks, pytest tests, and the cost of importing it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from conftest import clean_environment
from pages import read, sections, table

import mirembed.testing
from mirembed.errors import UnknownNameError
from mirembed.testing import Check, ConformanceError, check_similarity, learner_checks, promises, similarity_checks

PAGE = "docs/testing-plugins.md"
TESTS = """
    from mirembed.testing import similarity_checks

    def norms():
        def similarity(x):
            norms = (x * x).sum(dim=-1).sqrt()
            return norms[..., :, None] * norms[..., None, :]
        return similarity

    @similarity_checks("rbf", norms)
    def test_similarity(check):
        check()
"""


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("Similarities", "similarity"),
        ("Learners", "learner"),
        ("Datasets", "dataset"),
        ("Features", "features"),
        ("Networks", "network"),
    ],
)
def test_the_page_lists_every_check_with_its_promise(title, kind):
    rows = table(sections(read(PAGE), 2)[title])
    assert rows == [[promise.name, promise.text] for promise in promises(kind)]


def test_the_page_lists_the_public_names():
    names = {
        name
        for first, _ in table(read(PAGE))
        for name in re.findall(r"\b(check_\w+|\w+_checks|[A-Z]\w+)\b(?<!None)", first)
    }
    assert names == set(mirembed.testing.__all__)


def test_the_message_on_the_page_is_the_real_one():
    def Laplacian() -> object:  # noqa: N802 - its name is in the message
        return lambda x: (x * x).sum(dim=-1, keepdim=True).sqrt() * (x * x).sum(dim=-1).sqrt()[..., None, :]

    with pytest.raises(ConformanceError) as error:
        check_similarity(Laplacian)
    assert f"```text\n{error.value}\n```" in read(PAGE)


def test_every_check_of_every_plugin_is_a_separate_test():
    mark = learner_checks("svm", "svm:C=2").mark
    ids = [f"{spec}-{promise.name}" for spec in ("svm", "svm:C=2") for promise in promises("learner")]
    assert [parameter.id for parameter in mark.args[1]] == ids
    assert all(isinstance(check, Check) for parameter in mark.args[1] for check in parameter.values)


@pytest.mark.slow
def test_pytest_reports_failures_and_reasons_for_skipping(tmp_path):
    (tmp_path / "test_norms.py").write_text(re.sub("^    ", "", TESTS, flags=re.MULTILINE))
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "test_norms.py"]
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False)
    n_checks = len(promises("similarity"))
    assert re.search(rf"1 failed, {2 * n_checks - 2} passed, 1 skipped", done.stdout), done.stdout
    assert "FAILED test_norms.py::test_similarity[norms-gradient-finite]" in done.stdout
    assert "ConformanceError: similarity norms, gradient-finite: " in done.stdout
    assert "usual cause: sqrt()" in done.stdout
    assert re.search(r"SKIPPED .* no method cross", done.stdout)


def test_importing_it_imports_neither_pytest_nor_torch():
    code = "import sys, mirembed.testing; print({'pytest', 'torch', 'sklearn', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_an_unknown_name_is_not_a_broken_promise():
    with pytest.raises(UnknownNameError, match=r"'rfb'.* rbf"):
        check_similarity("rfb")
    for parameter in similarity_checks("rfb").mark.args[1]:
        with pytest.raises(UnknownNameError):
            parameter.values[0]()
