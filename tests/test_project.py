"""What a repository says about itself: license, citation, metadata and pinned versions."""

from __future__ import annotations

import hashlib
import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pages import ROOT, read

import mirembed

AGPL_3 = "0d96a4ff68ad6d4b6f1f30f713b18d5184912ba8dd389f86aa7710db079abcb0"
"""SHA-256 of the text that the Free Software Foundation publishes."""
CITATION_TYPES = {
    "abstract": str,
    "authors": list,
    "cff-version": str,
    "keywords": list,
    "license": str,
    "message": str,
    "references": list,
    "title": str,
    "type": str,
    "version": str,
}
"""Keys of CITATION.cff that mirembed uses, and their types in version 1.2.0 of the format."""


def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))["project"]


def pinned() -> dict[str, list[Requirement]]:
    requirements = [Requirement(line) for line in read("constraints.txt").splitlines() if line and line[0] != "#"]
    names = {canonicalize_name(requirement.name): [] for requirement in requirements}
    for requirement in requirements:
        names[canonicalize_name(requirement.name)].append(requirement)
    return names


def test_the_license_is_the_unmodified_agpl():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == AGPL_3
    assert project()["license"] == "AGPL-3.0-or-later"
    assert project()["license-files"] == ["LICENSE"]


def test_the_citation_is_a_valid_cff_file():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {key: type(value) for key, value in citation.items()} == CITATION_TYPES
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert all(isinstance(keyword, str) for keyword in citation["keywords"])
    assert len(set(citation["keywords"])) == len(citation["keywords"])
    [article] = citation["references"]
    assert article.keys() == {"authors", "doi", "journal", "title", "type", "year"}
    assert article["type"] == "article"
    assert isinstance(article["year"], int)
    assert re.fullmatch(r"10\.\d{4,}/\S+", article["doi"])
    for author in [*citation["authors"], *article["authors"]]:
        assert author.keys() in ({"name"}, {"family-names", "given-names"})
        assert all(isinstance(name, str) for name in author.values())


def test_the_citation_agrees_with_the_metadata():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == mirembed.__version__
    assert citation["license"] == project()["license"]
    assert citation["authors"] == project()["authors"]
    assert citation["references"][0]["doi"] in project()["urls"]["Method"]
    assert citation["references"][0]["doi"] in read("README.md")


def test_every_dependency_is_pinned_to_a_version_that_it_allows():
    optional = project()["optional-dependencies"]
    wanted = [*project()["dependencies"], *(line for lines in optional.values() for line in lines)]
    for requirement in map(Requirement, wanted):
        pins = pinned()[canonicalize_name(requirement.name)]
        for pin in pins:
            [specifier] = pin.specifier
            assert requirement.specifier.contains(Version(specifier.version), prereleases=True), (requirement, pin)


def test_the_classifiers_name_exactly_the_supported_versions_of_python():
    named = {Version(version) for version in re.findall(r"Python :: (3\.\d+)", " ".join(project()["classifiers"]))}
    allowed = Requirement(f"python{project()['requires-python']}").specifier
    assert named == {version for minor in range(6, 30) if (version := Version(f"3.{minor}")) in allowed}
    for version in named:  # and every package is pinned to exactly one version for each of them
        environment = {"python_version": str(version), "platform_machine": "x86_64", "sys_platform": "linux"}
        for name, pins in pinned().items():
            pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
            assert len(pins) == 1, (name, version)


def test_pre_commit_uses_only_the_environment_of_the_project():
    [repository] = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
