"""The page of `report`, judged by a browser: it loads nothing, its script does what it should, and
nothing is wider than a phone. The figures on it are numpy's."""

import json
import shutil
from html.parser import HTMLParser

import numpy
import pytest
import torch
from safetensors.torch import save_file

import browser
from judge import DONE, REFUSED, TESTDATA, USAGE, run

HOSTILE = "</script><img src=x onerror=alert(1)>"

needs_chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no chromium here")


@pytest.fixture(scope="module")
def chromium():
    it = browser.Browser()
    yield it
    it.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with hostile names, values of every kind, and one tensor that is read in part."""
    torch.manual_seed(7)
    odd = torch.randn(64, 96)
    odd[0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    odd[1] = 0
    tensors = {
        HOSTILE: torch.randn(16, 16),
        f"blk.0.{HOSTILE}.weight": odd,
        "\"'><svg onload=alert(2)>": torch.arange(9),
        "a\u202eb": torch.zeros(3),
        "large": torch.randn(1100, 1000),
    }
    for layer in range(12):
        tensors[f"blk.{layer}.attn.q.weight"] = torch.randn(40, 30) * (layer + 1)
        tensors[f"blk.{layer}.norm.weight"] = torch.ones(30, dtype=torch.bfloat16)
    path = tmp_path_factory.mktemp("report") / "model.safetensors"
    save_file(tensors, path, metadata={HOSTILE: HOSTILE})
    return path, tensors


@pytest.fixture(scope="module")
def page(model):
    path, tensors = model
    other = path.with_name("other.safetensors")
    save_file({name: (tensor * 1.01 if tensor.is_floating_point() else tensor)
               for name, tensor in tensors.items()}, other)
    account = path.with_name("account.json")
    record = {key: HOSTILE for key in ("outcome", "kind", "what", "why", "flag")} | {"loss": True}
    account.write_text(json.dumps({"input": HOSTILE, "report": [record] * 3}))
    html = path.with_name("page.html")
    done = run("report", path, "-o", html, "--against", other, "--conversion", account)
    assert done.returncode == DONE, done.stderr
    return html


def data(path, *options):
    done = run("report", path, "--json", *options)
    assert done.returncode == DONE, done.stderr
    return json.loads(done.stdout)


def test_figures_are_numpys(model):
    path, tensors = model
    rows = {row["name"]: row for row in data(path, "--all-values")["tensors"]}
    assert set(rows) == set(tensors)
    for name, tensor in tensors.items():
        values, want = rows[name]["values"], tensor.double().numpy()
        finite = want[numpy.isfinite(want)]
        assert values["read"] == want.size
        assert values["nan"] == numpy.isnan(want).sum()
        assert values["infinite"] == numpy.isinf(want).sum()
        assert values["zeros"] == (want == 0).sum()
        assert (values["min"], values["max"]) == (finite.min(), finite.max())
        assert values["mean"] == pytest.approx(finite.mean(), rel=1e-12, abs=1e-15)
        assert values["std"] == pytest.approx(finite.std(), rel=1e-12, abs=1e-15)
        if finite.min() < finite.max():
            drawn = values["histogram"]
            counts, _ = numpy.histogram(finite, bins=len(drawn["bins"]),
                                        range=(drawn["low"], drawn["high"]))
            # Bins are cut from finer ones, an eightieth of the value wide: counts move a little.
            apart = numpy.abs(numpy.cumsum(counts) - numpy.cumsum(drawn["bins"])).max()
            assert apart <= max(4, 0.02 * finite.size), (name, apart)


def test_a_sample_is_read_of_large_tensors(model):
    path, tensors = model
    rows = {row["name"]: row for row in data(path)["tensors"]}
    flat = tensors["large"].flatten().double().numpy()
    runs, last = 64, -(-flat.size // 16384) - 1
    places = [i * last // (runs - 1) * 16384 for i in range(runs)]
    sample = numpy.concatenate([flat[at:at + 16384] for at in places])
    values = rows["large"]["values"]
    assert values["read"] == sample.size < flat.size
    assert values["mean"] == pytest.approx(sample.mean(), rel=1e-9)
    assert (values["min"], values["max"]) == (sample.min(), sample.max())
    assert data(path, "--no-values")["values"] is None


def test_errors_are_numpys(model, page):
    path, tensors = model
    other = path.with_name("other.safetensors")
    found = data(path, "--no-values", "--against", other)["comparison"]
    assert found["compared"] == len(tensors)
    for row in found["rows"]:
        here = tensors[row["name"]].double().numpy()
        if not numpy.isfinite(here).all() or not tensors[row["name"]].is_floating_point():
            continue
        there = (tensors[row["name"]] * 1.01).double().numpy()
        rmse = numpy.sqrt(((here - there) ** 2).mean())
        assert row["rmse"] == pytest.approx(rmse, rel=1e-9)
        assert row["max_abs"] == numpy.abs(here - there).max()
        size = numpy.sqrt((there ** 2).mean())
        assert row["relative"] == pytest.approx(rmse / size if size else 0, rel=1e-9)


def test_the_page_is_the_same_every_time(model, tmp_path):
    path, _ = model
    pages = [run("report", path, "--threads", n).stdout for n in (1, 2, 5)]
    assert pages[0].startswith("<!DOCTYPE html>") and pages[0] == pages[1] == pages[2]


def test_markup_is_balanced_and_holds_no_stranger(page):
    class Parser(HTMLParser):
        void = {"meta", "input", "wbr"}
        stack, seen = [], set()

        def handle_starttag(self, tag, attributes):
            self.seen.add(tag)
            assert not any(key.startswith("on") or key in ("src", "style") for key, _ in attributes)
            if tag not in self.void:
                self.stack.append(tag)

        def handle_endtag(self, tag):
            assert self.stack.pop() == tag

    parser = Parser()
    parser.feed(page.read_text())
    assert not parser.stack and not parser.seen & {"img", "iframe", "link", "object", "form"}


def test_refusals(model, tmp_path):
    path, _ = model
    before = path.read_bytes()
    assert run("report", path, "-o", path, "--overwrite").returncode == USAGE
    assert path.read_bytes() == before
    page = tmp_path / "page.html"
    assert run("report", path, "-o", page).returncode == DONE
    assert run("report", path, "-o", page).returncode == USAGE
    assert run("report", path, "-o", page, "--overwrite").returncode == DONE
    account = tmp_path / "account.json"
    account.write_text("{}")
    for arguments in ([path, "--conversion", account], [account],
                      [TESTDATA / "safetensors/bad/no-such-file"]):
        out = tmp_path / "none.html"
        assert run("report", *arguments, "-o", out).returncode in (REFUSED, 4)
        assert not out.exists()
    plan = tmp_path / "plan.jsonl"
    plan.write_text('{"model": "a"}\n{"model": "b"}\n')
    done = run("report", plan)
    assert done.returncode == REFUSED and "JSON lines" in done.stderr


def test_a_hostile_checkpoint_is_named_so():
    path = next((TESTDATA / "ckpt/hostile").rglob("*.pt"))
    scan = data(path)["scan"]["files"][0]
    assert scan["verdict"] in ("dangerous", "suspicious", "malformed")


@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(390, 844), (768, 1024), (1440, 1000)], ids=str)
def test_no_error_nothing_loaded_nothing_too_wide(page, chromium, size, dark):
    assert chromium.open(page, *size, dark=dark) == []
    assert chromium.requests() == [f"file://{page}"]
    chromium.value("for (const it of document.querySelectorAll('details')) it.open = true")
    wide = chromium.value("document.documentElement.scrollWidth")
    assert wide <= size[0], f"the page is {wide} wide"
    outside = chromium.value("""[...document.querySelectorAll('body *')].filter((it) =>
        it.getBoundingClientRect().right > innerWidth + 1 && !it.closest('.scroll')
        && it.checkVisibility()).map((it) => it.outerHTML.slice(0, 200))""")
    assert outside == []
    # Colours follow the system, and the button turns them round.
    ground = "getComputedStyle(document.body).backgroundColor"
    first = chromium.value(ground)
    chromium.value("document.getElementById('theme').click()")
    assert chromium.value(ground) != first
    light = [int(n) for n in first[4:-1].split(",")]
    assert (sum(light) > 384) == (not dark)


@needs_chromium
def test_text_has_contrast(page, chromium):
    """WCAG AA: 4.5 to 1 for text on what it stands on."""
    for dark in (False, True):
        chromium.open(page, 1440, 1000, dark=dark)
        low = chromium.value("""(() => {
            const parse = (c) => c.match(/[\\d.]+/g).map(Number);
            const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255;
                return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
                return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const ground = (it) => { for (; it; it = it.parentElement) {
                const c = parse(getComputedStyle(it).backgroundColor);
                if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
            const low = [];
            for (const it of document.querySelectorAll('body :not(svg *, script)')) {
                if (![...it.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
                const a = light(parse(getComputedStyle(it).color)), b = light(ground(it));
                const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                if (ratio < 4.5) low.push([it.className, it.textContent.slice(0, 40), ratio]);
            }
            return low;
        })()""")
        assert low == []


@needs_chromium
def test_sort_and_filter(page, chromium):
    chromium.open(page, 1440, 1000)
    column = """(n) => [...document.querySelectorAll('#tensors-table tbody tr')]
        .filter((row) => !row.hidden).map((row) => row.cells[n].dataset.v || row.cells[n].textContent)"""
    sizes = f"({column})(3).map(Number)"
    press = """(n) => { const head = document.getElementById('tensors-table').tHead.rows[0].cells[n];
        head.querySelector('button').click(); return head.getAttribute('aria-sort'); }"""
    before = chromium.value(sizes)
    assert chromium.value(f"({press})(3)") == "descending"
    assert chromium.value(sizes) == sorted(before, reverse=True) != before
    assert chromium.value(f"({press})(3)") == "ascending"
    assert chromium.value(sizes) == sorted(before)
    # Layers in the order of their numbers, not of their digits.
    assert chromium.value(f"({press})(0)") == "ascending"
    names = [name for name in chromium.value(f"({column})(0)") if name.endswith("attn.q.weight")]
    assert names == [f"blk.{layer}.attn.q.weight" for layer in range(12)]

    def typed(text):
        chromium.value(f"""new Promise((done) => {{
            const box = document.querySelector('.filter[data-for=tensors-table]');
            const input = box.querySelector('input');
            input.value = {json.dumps(text)};
            input.dispatchEvent(new Event('input'));
            setTimeout(done, 200); }})""")
        return chromium.value(f"({column})(0)")

    assert len(typed("attn.q")) == 12
    assert typed("NORM blk.3.") == ["blk.3.norm.weight"]
    assert typed("<img src=x onerror") and "12" not in typed("no such tensor")
    assert len(typed("")) == len(before)
    assert chromium.value("""document.querySelector('.filter[data-for=tensors-table] output')
        .textContent""") == f"{len(before)} rows"
    assert chromium.value("document.images.length") == 0


@needs_chromium
def test_without_script_all_of_it_is_there(page, chromium):
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        assert chromium.open(page, 390, 844) == []
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    hidden = chromium.value("""[...document.querySelectorAll('[hidden]')]
        .map((it) => it.id || it.className)""")
    assert set(hidden) <= {"theme", "filter"}


@pytest.fixture(scope="module")
def migration(tmp_path_factory):
    """A tree of good models, a hostile one and a broken one, migrated, and its plan."""
    folder = tmp_path_factory.mktemp("migration")
    good = TESTDATA / "ckpt/good/zip/state_dict.pt"
    for name in ("a", "b", HOSTILE.replace("/", "")):
        (folder / "tree" / name).mkdir(parents=True)
        shutil.copy(good, folder / "tree" / name / "model.pt")
    (folder / "tree/hostile").mkdir()
    shutil.copy(next((TESTDATA / "ckpt/hostile").rglob("*.pt")), folder / "tree/hostile/model.pt")
    plan = folder / "plan.jsonl"
    assert run("migrate", "plan", folder / "tree", "--to", "safetensors", "--dest", folder / "out",
               "-o", plan).returncode in (DONE, 1)
    return plan


def rows_of(plan):
    done = run("report", plan, "--json")
    assert done.returncode == DONE, done.stderr
    return json.loads(done.stdout)["rows"]


@needs_chromium
def test_a_page_about_a_migration(migration, chromium):
    before = {row["name"]: row["status"] for row in rows_of(migration)}
    assert list(before.values()).count("planned") >= 3, before
    # Sources that go away between plan and run are failures with a message.
    (migration.parent / "tree/b/model.pt").unlink()
    assert run("migrate", "run", migration).returncode == 1
    rows = rows_of(migration)
    status = {row["name"]: row["status"] for row in rows}
    assert status["a/model.pt"] == "done" and status["b/model.pt"] == "failed", status
    assert next(row for row in rows if row["name"] == "b/model.pt")["message"]
    html = migration.parent / "migration.html"
    assert run("report", migration, "-o", html).returncode == DONE
    assert run("report", migration, "-o", html).returncode == USAGE
    assert run("report", migration, "--against", html).returncode == USAGE
    for width in (390, 1440):
        assert chromium.open(html, width, 900) == []
        assert chromium.requests() == [f"file://{html}"]
        assert chromium.value("document.documentElement.scrollWidth") <= width
        # A table that is cut says that it scrolls.
        wider = "[...document.querySelectorAll('.scroll')].filter((it) => it.scrollWidth > it.clientWidth + 1).length"
        assert chromium.value(wider) == chromium.value("document.querySelectorAll('.sideways').length")
        assert (chromium.value(wider) > 0) == (width == 390)
    status = json.loads(run("migrate", "status", migration, "--json").stdout)
    tiles = chromium.value("document.querySelector('.tiles').textContent")
    assert f"Models{status['models']}{status['done']} done" in tiles and f"Failed{len(status['failed'])}" in tiles, tiles
    assert chromium.value("document.images.length") == 0
    shown = "[...document.querySelectorAll('#models-table tbody tr')].filter((row) => !row.hidden).length"
    assert chromium.value(shown) == len(rows)
    chromium.value("""new Promise((done) => {
        const input = document.querySelector('.filter[data-for=models-table] input');
        input.value = 'b/model.pt'; input.dispatchEvent(new Event('input')); setTimeout(done, 200); })""")
    assert chromium.value(shown) == 1
