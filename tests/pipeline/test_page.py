"""The report on a folder of artifacts says what their records say, and can be read in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline import page
from pipeline.page.html import page as html
from pipeline.page.rows import read_rows
from pipeline.page.runners import lines, table
from pipeline.truth import number

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
TURNS = {"talk": {"labels": [[0.0, 4.0, "anna"]], "artifact": [[0.1, 4.0, "SPEAKER_00"], [5.0, 6.0, "SPEAKER_01"]]}}


def result(name: str, measured: float | None, outcome: str = "pass", **more: Any) -> dict[str, Any]:
    record = {"name": name, "measured": measured, "limit": "≥ 0.99", "unit": "share", "outcome": outcome, "note": ""}
    return record | {"required": "build", "detail": {}} | more


def artifact(out: Path, variant: str, size: int, *results: dict[str, Any], **more: Any) -> None:
    folder = out / variant
    folder.mkdir(parents=True)
    facts = {
        "variant": variant,
        "network": "segmentation",
        "format": "coreml",
        "convert": {"precision": "fp16"},
        "optimize": [],
        "checkpoint": {"id": variant.split("/")[0], "weights": "trained", "licence": "MIT"},
        "files": {"a.mlpackage/x": {"size_bytes": size}, "a.mlmodelc/x": {"size_bytes": 10 * size}},
    }
    (folder / "manifest.json").write_text(json.dumps(facts | more))
    (folder / "checks.json").write_text(json.dumps(results))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    lint = {"functions": [{"operations": 10, "leaving": 4}]}
    artifact(
        tmp_path,
        "seg/fp16",
        3_000_000,
        result("parity.argmax", 0.9992),
        result("parity.rewrite", 2.5e-5),
        result("lint.errors", 0.0, note="0 errors, <3> warnings", detail=lint),
        result("der.divergence", 0.4, detail={"turns": TURNS}),
        result("der.error", 18.25),
        result("placement.loads", None, "not run", note="needs macOS", required="publish"),
    )
    artifact(tmp_path, "seg/w4", 900_000, result("parity.argmax", 0.9, "fail", note="against upstream"))
    artifact(
        tmp_path, "emb/w8", 8_000_000, result("embedding.cosine_worst", None, "not run", note="no <audio>"), network="x"
    )
    page.write(tmp_path)
    return tmp_path


def test_every_artifact_has_its_verdict_and_its_numbers(out: Path) -> None:
    """The package alone is its size, and what is most telling is its truth."""
    rows = {row.variant: row for row in read_rows(out)}
    assert {name: row.verdict for name, row in rows.items()} == {
        "seg/fp16": "pass",
        "seg/w4": "fail",
        "emb/w8": "not run",
    }
    assert rows["seg/fp16"].size_mb == 3.0
    assert rows["seg/fp16"].faithful == ("same speakers", 0.9992)
    assert rows["seg/fp16"].ladder == {"rewrite": 2.5e-5}
    assert rows["emb/w8"].faithful is None


def test_the_report_names_failures_and_what_was_not_run(out: Path) -> None:
    """With their reasons, which cannot break the page."""
    text = (out / "report.html").read_text()
    assert "seg/w4: parity.argmax: 0.9 share, limit ≥ 0.99: against upstream" in text
    assert "placement.loads <small>(1)</small>: needs macOS" in text
    assert "no &lt;audio&gt;" in text
    assert "<audio>" not in text
    assert "18.2 %" in text


def test_the_report_needs_nothing_beside_it(out: Path) -> None:
    """No script, no font, no picture from elsewhere."""
    text = (out / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=|<script|url\(|@import", text)


def test_the_report_is_well_formed(out: Path) -> None:
    """Every element that is opened is closed, in order."""

    class Balance(HTMLParser):
        open_: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag not in ("meta", "line"):
                self.open_.append(tag)

        def handle_startendtag(self, tag: str, attrs: list) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert self.open_.pop() == tag

    balance = Balance()
    balance.feed((out / "report.html").read_text())
    assert balance.open_ == []


def test_the_readme_has_the_same_table(out: Path) -> None:
    """For people who read files."""
    text = (out / "README.md").read_text()
    assert "| `seg/w4` | trained | 0.90 | same speakers 0.9 | 0 / 1 / 0 | fail |" in text


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Return a folder of one checkpoint in three formats, another one, and a stand-in."""

    def seg(name: str, format_: str, precision: str, argmax: float, apart: float, **more: Any) -> None:
        held = {"against": "upstream"}
        artifact(
            tmp_path,
            f"seg/{name}",
            3_000_000,
            result("parity.argmax", argmax, detail=held),
            result("parity.max_difference", apart, detail={"from": "upstream"}),
            result("parity.rewrite", 2e-5),
            result("parity.convert", 5e-5),
            result("alias.package", 0.0),
            format=format_,
            convert={"precision": precision},
            **more,
        )

    palettes = [{"name": "palettize", "options": {"nbits": 6}, "decided": {}}]
    seg("w6", "coreml", "fp16", 0.994, 0.3, optimize=palettes)
    seg("w6-b4", "coreml", "fp16", 0.996, 0.4, optimize=palettes)
    seg("gguf-fp16", "gguf", "fp16", 0.9998, 0.005)
    seg("onnx-int8", "onnx", "int8", 0.98, 0.5)
    synthetic = {"id": "emb", "weights": "synthetic", "licence": "MIT"}
    cosine = result("embedding.cosine_worst", 0.9991, detail={"against": "network"})
    artifact(tmp_path, "emb/mixed", 9_000_000, cosine, checkpoint=synthetic, convert={"precision": "mixed"})
    artifact(tmp_path, "other/fp16", 1_000_000, result("size.package", 1.0))
    return tmp_path


def test_all_runners_stand_in_one_table(several: Path) -> None:
    """By checkpoint, torch first; the worst of a precision's artifacts; stand-ins are named as such."""
    head, *rows = table(lines(read_rows(several)))
    assert head == (
        *("checkpoint", "runner", "precision", "artifacts", "against"),
        *("same speakers", "worst cosine", "largest difference", "rewrite", "convert"),
    )
    assert rows == [
        ("emb (stand-in)", "MIL interpreter", "mixed", "1", "network", "–", "0.999100", "–", "–", "–"),
        ("seg", "torch", "fp32", "4", "upstream", "–", "–", "2.0e-05", "–", "–"),
        ("seg", "MIL interpreter", "fp16, palettize 6", "2", "upstream", "0.994000", "–", "0.4", "2.0e-05", "5.0e-05"),
        ("seg", "ggml", "fp16", "1", "upstream", "0.999800", "–", "0.005", "2.0e-05", "5.0e-05"),
        ("seg", "onnxruntime", "int8", "1", "upstream", "0.980000", "–", "0.5", "2.0e-05", "5.0e-05"),
    ]


def test_the_report_and_the_readme_have_the_table_of_runners(several: Path, tmp_path: Path) -> None:
    """Once each, and not where nothing was held against anything."""
    page.write(several)
    assert (several / "report.html").read_text().count("<td>onnxruntime</td><td>int8</td>") == 1
    assert "| seg | ggml | fp16 | 1 | upstream | 0.999800 |" in (several / "README.md").read_text()
    artifact(tmp_path / "bare", "other/fp16", 1_000_000, result("size.package", 1.0))
    page.write(tmp_path / "bare")
    assert (
        "All runners"
        not in (tmp_path / "bare" / "report.html").read_text() + (tmp_path / "bare" / "README.md").read_text()
    )


def test_what_a_mac_measured_stands_apart_from_what_rules_predict(out: Path) -> None:
    """With the machine and the outcome; a folder that no Mac has seen has no such table."""
    assert "Measured on a Mac" not in (out / "report.html").read_text()
    mac = {"system": "macOS", "version": "26.1", "machine": "arm64", "chip": "Apple M4", "day": "2026-11-20"}
    detail = {"measured_on": mac}
    artifact(
        out,
        "seg/w8",
        1_700_000,
        result("placement.neural_engine", 0.75, detail=detail),
        result("placement.peak_memory", 900.0, "fail", detail=detail),
        result("lint.errors", 0.0, detail={"functions": [{"operations": 10, "leaving": 4}]}),
    )
    page.write(out)
    text = (out / "report.html").read_text()
    predicted, measured = (text.index(title) for title in ("Operations for the Neural Engine", "Measured on a Mac"))
    assert predicted < text.index("4 of 10") < measured < text.index('<td class="pass">0.75</td>')
    assert '<td class="fail">900</td>' in text
    assert "Apple M4, macOS 26.1, 2026-11-20" in text


def test_an_empty_folder_has_a_report_too(tmp_path: Path) -> None:
    """It says that there is nothing."""
    assert "0 artifacts: none" in html(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0"), (0.999995, "0.999995"), (2.5e-5, "2.5e-05"), (18, "18")]
)
def test_numbers_keep_the_digits_that_matter(value: float | None, text: str) -> None:
    """A share close to one is told apart from one."""
    assert number(value) == text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium")
@pytest.mark.parametrize("width", [500, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_on_a_phone_and_on_a_desk_in_both_schemes(out: Path, width: int, scheme: str) -> None:
    """Nothing is wider than the screen but what scrolls by itself, and the colours are those of the scheme.

    Headless Chromium has no window narrower than 500.
    """
    probe = (
        "<script>addEventListener('load',()=>{const s=getComputedStyle(document.body);document.body.dataset.found="
        "JSON.stringify([document.documentElement.scrollWidth<=innerWidth,s.backgroundColor,"
        "document.querySelectorAll('svg rect').length,document.querySelector('.bar i').offsetWidth>0])})</script>"
    )
    (out / "probed.html").write_text((out / "report.html").read_text().replace("</body>", f"{probe}</body>"))
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000",
        f"--window-size={width},900", *(["--force-dark-mode"] if scheme == "dark" else []),
        "--blink-settings=preferredColorScheme=" + ("0" if scheme == "dark" else "1"),
        f"--user-data-dir={out / 'profile'}", "--dump-dom", (out / "probed.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stdout[-500:]
    fits, background, rectangles, bar = json.loads(found[1].replace("&quot;", '"'))
    assert fits
    assert background == ("rgb(22, 22, 22)" if scheme == "dark" else "rgb(253, 253, 251)")
    assert rectangles >= 3
    assert bar
