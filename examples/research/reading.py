"""What the research flow does with documents: find them, read one, weigh them, write the report.

Plain functions over plain data, without Kitaru: `research.py` makes the checkpoints out of them. The documents are what
every machine with Python has: the standard library's sources and the licence, readme and documentation files of the
installed distributions.
"""

from __future__ import annotations

import ast
import hashlib
import io
import math
import re
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

MAX_BYTES = 200_000
"""Longer documents are left out: a handful would take as long to read as all others together."""

TOP_TERMS = 40
_SKIPPED = ("site-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "encodings", "pydoc_data")
_TEXT_NAMES = ("licen", "copying", "notice", "readme", "metadata", "authors", "changes", "changelog")
_WORD = re.compile(r"[A-Za-z]{3,}")
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMMON_TEXT = """
about after all also and any are arg args because been before being both but can class could def did does doing
each elif else except false for from had has have how import int into its just kwargs like may more most must
name none not obj object off one only other out over own raise return returns same self should some str such
than that the their them then there these they this true try two type under use used using value was were what
when where which while who why will with would yield you your
"""
_COMMON = frozenset(_COMMON_TEXT.split())


@dataclass(frozen=True)
class Digest:
    """What reading one document found: `terms` counted by word, `hits` by stem of a word of the question."""

    path: str
    title: str
    kind: str
    headline: str
    sha256: str
    encoding: str
    size: int
    lines: int
    words: int
    definitions: int
    documented: int
    terms: dict[str, int]
    hits: dict[str, int]
    passage: str


@dataclass(frozen=True)
class Finding:
    """A document and how well it fits the question."""

    score: float
    digest: Digest


def find_documents(limit: int) -> list[str]:
    """At most `limit` paths, the same on every call: the packages' texts first, then the library's sources."""
    library = Path(sysconfig.get_path("stdlib"))
    sources = sorted(_sources(library), key=lambda path: (len(path.parts), str(path)))
    texts = sorted(set(_texts()))[: limit // 5]
    return [str(path) for path in [*texts, *sources][:limit]]


def _sources(library: Path) -> Iterator[Path]:
    for path in library.rglob("*.py"):
        if not set(_SKIPPED).intersection(path.relative_to(library).parts) and _is_readable_size(path):
            yield path


def _texts() -> Iterator[Path]:
    for distribution in distributions():
        for file in distribution.files or ():
            if file.suffix in (".md", ".rst", ".txt", "") and file.name.lower().startswith(_TEXT_NAMES):
                path = Path(str(distribution.locate_file(file)))
                if _is_readable_size(path):
                    yield path


def _is_readable_size(path: Path) -> bool:
    try:
        return 200 <= path.stat().st_size <= MAX_BYTES
    except OSError:
        return False


def question_words(question: str) -> tuple[str, ...]:
    """The words of the question that say something, stemmed, each once."""
    return tuple(dict.fromkeys(map(_stem, _words(question))))


def read_document(path: str, question: str) -> Digest:
    """Read and digest one document. Raises OSError when it cannot be read."""
    data = Path(path).read_bytes()
    text, encoding = _decode(data)
    is_source = path.endswith(".py")
    tree = _parse(text) if is_source else None
    prose = _prose_of_source(text, tree) if tree is not None else re.split(r"\n\s*\n", text)
    wanted = question_words(question)
    counts = Counter(word for paragraph in prose for word in _words(paragraph))
    stems: Counter[str] = Counter()
    for word, count in counts.items():
        stems[_stem(word)] += count
    defined = [node for node in ast.walk(tree) if isinstance(node, _DEFINITIONS)] if tree else []
    return Digest(
        path=path,
        title=_title(Path(path)),
        kind="source" if is_source else "text",
        headline=_headline(prose),
        sha256=hashlib.sha256(data).hexdigest(),
        encoding=encoding,
        size=len(data),
        lines=text.count("\n") + 1,
        words=counts.total(),
        definitions=len(defined),
        documented=sum(ast.get_docstring(node, clean=False) is not None for node in defined),
        terms=dict(counts.most_common(TOP_TERMS)),
        hits={stem: stems[stem] for stem in wanted if stems[stem]},
        passage=_best_passage(prose, wanted),
    )


def _decode(data: bytes) -> tuple[str, str]:
    """The text and its encoding: the declared one, else UTF-8; Latin-1 when it lies."""
    try:
        declared, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(declared), declared
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return data.decode("latin-1"), "latin-1"


def _parse(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def _prose_of_source(text: str, tree: ast.Module) -> list[str]:
    """Paragraphs of docstrings, outermost first, then blocks of comments: what a person wrote for a person."""
    owners = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, *_DEFINITIONS))]
    docstrings = [doc for owner in owners if (doc := ast.get_docstring(owner))]
    return [*(part for doc in docstrings for part in re.split(r"\n\s*\n", doc)), *_comment_blocks(text)]


def _comment_blocks(text: str) -> Iterator[str]:
    block: list[str] = []
    last = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type != tokenize.COMMENT or token.string.startswith("#!"):
                continue
            if token.start[0] != last + 1 and block:
                yield " ".join(block)
                block = []
            last = token.start[0]
            block.append(token.string.lstrip("# "))
    except (tokenize.TokenError, SyntaxError):
        pass
    if block:
        yield " ".join(block)


def _words(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        word = match.group().lower()
        if word not in _COMMON:
            yield word


def _stem(word: str) -> str:
    """`files` and `file`, `interrupted` and `interrupt` are one term; crude, and the same for both sides."""
    for ending in ("ing", "ed", "s"):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    return word.removesuffix("e") if len(word) > 3 else word


def _title(path: Path) -> str:
    """Short enough for a table: `asyncio/locks.py`, `orjson-3.11/METADATA`."""
    library = Path(sysconfig.get_path("stdlib"))
    if path.is_relative_to(library) and "site-packages" not in path.parts:
        return path.relative_to(library).as_posix()
    if "site-packages" in path.parts:
        inside = path.parts[path.parts.index("site-packages") + 1 :]
        return f"{inside[0].removesuffix('.dist-info')}/{inside[-1]}"
    return path.name


def _headline(prose: Sequence[str]) -> str:
    for paragraph in prose:
        for line in paragraph.splitlines():
            if line.startswith("Summary: "):
                return line.removeprefix("Summary: ")[:100]
            words = " ".join(line.strip("#=-*. \t").split())
            if len(words) > 3 and not words.startswith(("Metadata-Version:", "Name:", "Version:")):
                return words[:100]
    return "(no headline)"


def _best_passage(prose: Sequence[str], wanted: Sequence[str]) -> str:
    """The two neighbouring sentences that hold most different words of the question; a bare heading counts half."""
    best, best_score = "", 0.0
    for paragraph in prose:
        sentences = _SENTENCE_END.split(" ".join(paragraph.split()))
        for first, second in zip(sentences, [*sentences[1:], ""], strict=True):
            pair = f"{first} {second}".strip()
            found = Counter(stem for word in _words(pair) if (stem := _stem(word)) in wanted)
            score = len(found) + found.total() / (20 + len(pair) / 10)
            score = score / 2 if len(pair) < 40 else score
            if found and score > best_score:
                best, best_score = pair, score
    return best if len(best) <= 300 else best[:297] + "..."


def rank_digests(digests: Sequence[Digest], question: str) -> list[Finding]:
    """All documents, best first, by BM25 over the words of the question (k1 = 1.5, b = 0.75)."""
    wanted = question_words(question)
    average = sum(d.words for d in digests) / max(1, len(digests)) or 1.0
    holders = {word: sum(word in d.hits for d in digests) for word in wanted}
    findings: list[Finding] = []
    for digest in digests:
        score = 0.0
        for word, count in digest.hits.items():
            rarity = math.log(1 + (len(digests) - holders[word] + 0.5) / (holders[word] + 0.5))
            length = 1 - 0.75 + 0.75 * digest.words / average
            score += rarity * count * 2.5 / (count + 1.5 * length)
        findings.append(Finding(round(score, 4), digest))
    return sorted(findings, key=lambda finding: (-finding.score, finding.digest.path))


def report_text(question: str, findings: Sequence[Finding], shown: int = 10) -> str:
    """The report as Markdown."""
    digests = [finding.digest for finding in findings]
    corpus: Counter[str] = Counter()
    for digest in digests:
        corpus.update(digest.terms)
    lines = [
        f"# {question}",
        "",
        _extent(digests),
        "",
        "| | score | document | what it is |",
        "|--:|--:|---|---|",
    ]
    best = [finding for finding in findings[:shown] if finding.score > 0]
    for place, finding in enumerate(best, 1):
        headline = finding.digest.headline.replace("|", "/")[:60]
        lines.append(f"| {place} | {finding.score:.2f} | {finding.digest.title} | {headline} |")
    for finding in best:
        lines += ["", f"## {finding.digest.title}", "", f"> {finding.digest.passage}"]
    lines += ["", "## What the documents talk about", "", ", ".join(term for term, _ in corpus.most_common(25)), ""]
    return "\n".join(lines)


def _extent(digests: Sequence[Digest]) -> str:
    """How much was read, in one sentence."""
    sources = sum(digest.kind == "source" for digest in digests)
    words, definitions = sum(d.words for d in digests), sum(d.definitions for d in digests)
    documented = sum(digest.documented for digest in digests)
    return (
        f"{len(digests)} documents read, {words:,} words; {sources} sources with {definitions:,} definitions, "
        f"{documented:,} of them documented."
    )
