"""The notebooks as saved, the tool that saves them, and that taught code is the imported code."""

import ast
import json
import pathlib
import re
import subprocess
import sys

import nbformat
import pytest
import torch

import notebooks as tool
from course_utils import models
from course_utils.batches import layers
from course_utils.exercises import EXERCISES

PATHS = sorted(tool.FOLDER.glob("*.ipynb"))
BOOKS = {path.name: nbformat.read(path, as_version=4) for path in PATHS}


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def prose(book):
    return "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("name", BOOKS)
def test_saved_as_the_course_keeps_them(name):
    assert tool.faults(BOOKS[name]) == []


ABSENT = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
sys.modules["course_utils"] = None  # what import finds, and raises ModuleNotFoundError
shell = InteractiveShell.instance(colors="nocolor")
for source in json.load(sys.stdin):
    shell.run_cell(source)
    print("=" * 9)
"""


def test_without_the_package_the_first_cell_says_what_to_do():
    """The line that fails is shown with an arrow, and with it the comment that has the answer."""
    sources = [code(book)[0].source for book in BOOKS.values()]
    done = subprocess.run(
        [sys.executable, "-c", ABSENT], input=json.dumps(sources), capture_output=True, text=True
    )
    said = done.stdout.split("=" * 9)[:-1]
    assert len(said) == len(BOOKS) and "make lab" in (tool.ROOT / "README.md").read_text()
    for name, traceback in zip(BOOKS, said, strict=True):
        assert "ModuleNotFoundError" in traceback, name
        assert re.search(r"^-+> .*course_utils.*make lab.*README\.md", traceback, re.M), name


@pytest.mark.parametrize("name", BOOKS)
def test_the_rhythm_of_a_chapter(name):
    text = prose(BOOKS[name])
    assert len(re.findall(r"^# ", text, re.M)) == 1, "one H1"
    assert re.search(r"^\*\d+ minutes", text, re.M), "minutes at the top"
    assert "After this chapter you can" in text and text.rfind("## Summary") > len(text) / 2
    assert "Predict" in text and "Why" in text and "## In the wild" in text
    pictures = sum("<img" in str(cell.outputs) for cell in code(BOOKS[name]))
    assert text.count("**What to see.**") >= pictures, "a sentence under each figure"


@pytest.mark.parametrize("name", BOOKS)
def test_links_to_chapters_lead_somewhere(name):
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", prose(BOOKS[name])):
        assert (tool.FOLDER / link).exists(), link


@pytest.mark.parametrize("name", BOOKS)
def test_every_exercise_of_the_chapter_is_posed_and_checked_with_its_stub(name):
    cells = [cell.source for cell in code(BOOKS[name])]
    source = "\n".join(one for one in cells if not one.startswith("%%"))  # a file of its own
    for one in EXERCISES.values():
        if one.id.startswith(name[:2]):
            assert f'exercise("{one.id}")' in source
            given = one.solution.__name__
            assert f'check("{one.id}", {given})' in source
            solution = ast.parse(one.source).body[0]
            # A stub of more than one statement, or with other arguments, is not the exercise's.
            assert f"{ast.unparse(solution.args)}: ..." in {
                f"{ast.unparse(node.args)}: {ast.unparse(node.body[0])}"
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef) and node.name == given and len(node.body) == 1
            }
    assert len(set(re.findall(r'check\("(\d\d\.\d)"', source))) == sum(
        one.startswith(name[:2]) for one in EXERCISES
    )


@pytest.mark.parametrize("name", BOOKS)
def test_nothing_of_the_machine_is_in_a_saved_output(name):
    text = str([cell.outputs for cell in code(BOOKS[name])])
    text = re.sub(r"base64,[\w+/=]+", "", text)  # a font: any letters may stand there
    assert not re.search(r"/home/|/root/|/Users/|/work/|0x[0-9a-f]{6}", text)


def test_taught_padded_lstm_is_the_imported_one():
    source = next(
        cell.source
        for cell in code(BOOKS["01_naive_padding.ipynb"])
        if "class PaddedLSTM" in cell.source
    )
    names = {"nn": torch.nn}
    exec(source, names)

    def make(cls):
        torch.manual_seed(0)
        return cls(3, 4, 5, names["last_column"])

    taught, imported = make(names["PaddedLSTM"]), make(models.PaddedLSTM)
    batch, lengths = torch.randn(2, 6, 3), torch.tensor([6, 2])
    assert torch.equal(taught(batch, lengths), imported(batch, lengths))
    assert taught.state_dict().keys() == imported.state_dict().keys()


def test_taught_packed_lstm_is_the_imported_one():
    from course_utils.batches.packed import pack

    source = next(
        cell.source for cell in code(BOOKS["02_packing.ipynb"]) if "class PackedLSTM" in cell.source
    )
    names = {"nn": torch.nn, "torch": torch, "pack": pack}
    exec(source, names)
    batch, lengths = torch.randn(2, 6, 3), torch.tensor([6, 2])
    for bidirectional in (True, False):
        both = []
        for cls in (names["PackedLSTM"], models.PackedLSTM):
            torch.manual_seed(0)
            both.append(cls(3, 4, 5, bidirectional))
        assert torch.equal(both[0](batch, lengths), both[1](batch, lengths))
        assert both[0].state_dict().keys() == both[1].state_dict().keys()


def test_taught_means_are_the_imported_ones():
    from course_utils.batches.masks import lengths_to_keep_mask, masked_mean

    source = next(
        cell.source
        for cell in code(BOOKS["01_naive_padding.ipynb"])
        if "def real_steps" in cell.source
    )
    names = {"torch": torch}
    exec(source.split("\n\n\nFILLS")[0], names)
    batch, lengths = torch.randn(3, 6, 2), torch.tensor([6, 2, 1])
    assert torch.equal(names["real_steps"](batch, lengths)[..., 0], lengths_to_keep_mask(lengths))
    imported = masked_mean(batch, lengths_to_keep_mask(lengths))
    assert torch.equal(EXERCISES["01.4"].solution(batch, lengths), imported)
    assert torch.allclose(names["multiplied"](batch, lengths), imported)


def test_taught_collate_is_the_imported_one():
    from course_utils.batches.padding import collate, pad

    source = next(
        cell.source
        for cell in code(BOOKS["01_naive_padding.ipynb"])
        if "def collate" in cell.source
    )
    names = {"torch": torch, "pad_and_measure": pad}
    exec(source[source.index("def collate") :].split("\n\n\nbatch")[0], names)
    samples = [(torch.randn(3, 2), 4), (torch.randn(5, 2), 1)]
    for taught, imported in zip(names["collate"](samples), collate(samples), strict=True):
        assert torch.equal(taught, imported)


def taught(name, marker, **names):
    """What the cell with this marker defines."""
    source = next(cell.source for cell in code(BOOKS[name]) if marker in cell.source)
    names |= {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    exec(source, names)
    return names


def test_taught_losses_are_the_imported_ones():
    from course_utils.training import four_losses

    here = taught("03_masking_and_the_loss.ipynb", "def four_losses")["four_losses"]
    logits, targets = torch.randn(2, 5, 3), torch.randint(0, 3, (2, 5))
    keep_mask = torch.arange(5) < torch.tensor([[5], [2]])
    assert here(logits, targets, keep_mask) == four_losses(logits, targets, keep_mask)


def test_taught_attention_pool_is_the_imported_one():
    from course_utils.batches.masks import lengths_to_keep_mask

    names, both = {"lengths_to_keep_mask": lengths_to_keep_mask}, []
    name = "AttentionPool"
    here = taught("03_masking_and_the_loss.ipynb", f"class {name}", **names)[name]
    values, lengths = torch.randn(2, 6, 4), torch.tensor([6, 2])
    for cls in (here, layers.AttentionPool):
        torch.manual_seed(0)
        both.append(cls(4)(values, lengths))
    assert torch.equal(*both)


def test_taught_probe_of_masks_is_the_imported_one():
    from course_utils.batches.conventions import effect_of_marking, ways_to_mask

    here = taught("04_transformer_masks.ipynb", "def effect_of_marking")["effect_of_marking"]
    for attend in ways_to_mask().values():
        assert here(attend) == effect_of_marking(attend)


def test_taught_masked_transformer_is_the_imported_one():
    from course_utils.batches import masks

    names = {one: getattr(masks, one) for one in dir(masks)} | {"sinusoids": layers.sinusoids}
    here = taught("04_transformer_masks.ipynb", "class MaskedTransformer", **names)
    batch, lengths, both = torch.randn(2, 6, 3), torch.tensor([6, 2]), []
    for cls in (here["MaskedTransformer"], models.MaskedTransformer):
        torch.manual_seed(0)
        both.append(cls(3, 8, 5))
    assert torch.equal(both[0](batch, lengths), both[1](batch, lengths))
    assert both[0].state_dict().keys() == both[1].state_dict().keys()


def test_taught_layers_of_chapter_05_are_the_imported_ones():
    from course_utils.batches import masks
    from course_utils.batches.packed import pack

    names = {one: getattr(masks, one) for one in dir(masks)} | {"pack": pack}
    names["pad_packed_sequence"] = torch.nn.utils.rnn.pad_packed_sequence
    here = taught("05_hybrid_models.ipynb", "class Hybrid(", **names)["Hybrid"]
    batch, lengths, both = torch.randn(2, 6, 3), torch.tensor([6, 2]), []
    for cls in (here, models.Hybrid):
        torch.manual_seed(0)
        both.append(cls(3, 4, 5))
    assert torch.equal(both[0](batch, lengths), both[1](batch, lengths))
    assert both[0].state_dict().keys() == both[1].state_dict().keys()
    name = "MaskedBatchNorm1d"
    norm = taught("05_hybrid_models.ipynb", f"class {name}")[name]
    keep_mask = masks.lengths_to_keep_mask(lengths)
    assert torch.equal(norm(3)(batch, keep_mask), layers.MaskedBatchNorm1d(3)(batch, keep_mask))


def test_solutions_of_chapter_06_make_the_imported_sampler():
    from course_utils.batches.sampling import BucketBatchSampler

    pooled, order = (EXERCISES[id].solution for id in ("06.1", "06.2"))
    lengths = torch.randint(1, 30, (50,))
    sampler = BucketBatchSampler(lengths, 4, pool_batches=3, seed=7)
    sampler.set_epoch(2)
    batches = pooled(lengths, order(50, 7, 2), 4, 3)
    assert sorted(batches) == sorted(sampler)


def test_taught_packers_and_model_of_chapter_07_are_the_imported_ones():
    from course_utils.batches import rows

    name = "07_sequence_packing.ipynb"
    lengths = torch.randint(1, 20, (60,), generator=torch.Generator().manual_seed(0))
    assert taught(name, "def first_fit")["first_fit"](lengths, 24) == rows.first_fit(lengths, 24)
    counts = torch.bincount(lengths)
    here = taught(name, "def pack_histogram")["pack_histogram"]
    assert here(counts, 24) == rows.pack_histogram(counts, 24)
    block = taught(name, "class Block")["Block"]
    here = taught(name, "class CausalLM", Block=block)["CausalLM"]
    content, both = torch.randint(0, 9, (2, 6)), []
    places = torch.arange(6).expand(2, 6)
    for cls in (here, models.CausalLM):
        torch.manual_seed(0)
        model = cls(9, 8, 2)
        both.append(model(content, places, torch.nn.functional.scaled_dot_product_attention))
    assert torch.equal(*both)


def test_solutions_of_chapter_07_are_the_imported_functions():
    from course_utils.batches import rows

    pack, mask, places, targets = (EXERCISES[f"07.{n}"].solution for n in (1, 2, 3, 4))
    lengths = torch.randint(1, 9, (12,), generator=torch.Generator().manual_seed(0))
    packed = pack(lengths, 10)
    assert packed == rows.best_fit_decreasing(lengths, 10)
    texts = [torch.randint(0, 9, (length,)) for length in lengths.tolist()]
    content, document_id, positions = rows.fill_rows(texts, packed, 10)
    assert torch.equal(mask(document_id)[:, None], rows.document_mask(document_id))
    assert torch.equal(places(document_id), positions)
    assert torch.equal(targets(content, document_id), rows.next_step_targets(content, document_id))


def test_taught_attention_of_chapter_08_is_the_imported_one():
    from course_utils.batches.flat import attend_within, lengths_to_cu_seqlens

    name = "08_flat_batches.ipynb"
    names = {"attention": torch.nn.functional.scaled_dot_product_attention}
    here = taught(name, "def attend_by_length", **names)["attend_by_length"]
    cu_seqlens = lengths_to_cu_seqlens([2, 2, 3, 5, 5, 5])
    q, k, v = torch.randn(3, 2, 22, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(here(cu_seqlens)(q, k, v), attend_within(cu_seqlens)(q, k, v))


def test_solutions_of_chapter_08_are_the_imported_functions():
    from course_utils.batches import flat
    from course_utils.batches.rows import document_mask

    borders, mean, _, own = (EXERCISES[f"08.{n}"].solution for n in (1, 2, 3, 4))
    lengths = torch.tensor([3, 1, 4])
    cu_seqlens = flat.lengths_to_cu_seqlens(lengths)
    assert torch.equal(borders(lengths).int(), cu_seqlens)
    values = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mean(values, cu_seqlens), flat.segment_mean(values, cu_seqlens))
    document_id, step = flat.cu_seqlens_to_document_id(cu_seqlens)[None], torch.arange(8)
    b = torch.zeros(1, 1, 1, dtype=torch.int64)
    mask = own(document_id, b, step[:, None], step[None, :])
    assert torch.equal(mask[:, None], document_mask(document_id))


def test_solution_of_chapter_09_is_the_imported_loss():
    from course_utils.ranks import loss_of_rank

    def with_the_other(count):
        count += 3

    values = torch.tensor(10.0), torch.tensor(2), with_the_other, 2
    assert EXERCISES["09.1"].solution(*values) == loss_of_rank(*values) == 4


# --- the tool ---


def book(*sources, outputs=()):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    for count, cell in enumerate(cells, 1):
        cell.execution_count = count
        cell.outputs = [nbformat.from_dict(output) for output in outputs]
    new = nbformat.v4.new_notebook(cells=cells)
    new.metadata = nbformat.from_dict(tool.METADATA)
    tool.mark(new)
    return new


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data):
    return {"output_type": "display_data", "metadata": {}, "data": data}


def test_clean_keeps_the_last_state_of_a_progress_bar():
    cleaned = tool.clean(book("a", outputs=[stream("\rbar 1"), stream("\rbar 2\n"), stream("x\n")]))
    assert [output.text for output in cleaned.cells[0].outputs] == ["bar 2\nx\n"]


def test_clean_drops_widget_views_state_and_timestamps():
    dirty = book("a", outputs=[shown(**{tool.WIDGET: {"model_id": "1"}, "text/html": "<img>"})])
    dirty.metadata["widgets"] = {"state": 1}
    dirty.cells[0].metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
    dirty.cells[0].metadata["tags"] = ["keep"]
    assert "run-dependent" in tool.faults(dirty)[0]
    cleaned = tool.clean(dirty)
    assert cleaned.cells[0].outputs[0].data == {"text/html": "<img>"}
    assert cleaned.cells[0].metadata.keys() == {"tags", "slideshow"}
    assert cleaned.cells[0].metadata["tags"] == ["keep"] and "widgets" not in cleaned.metadata
    assert tool.faults(cleaned) == []


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (stream("careful", "stderr"), "stderr"),
        ({"output_type": "error", "ename": "E", "evalue": "", "traceback": []}, "an error"),
        (shown(**{"image/png": "iVBO"}), "a picture without alt text"),
    ],
)
def test_faults_finds_what_a_reader_must_not_meet(output, fault):
    assert any(fault in one for one in tool.faults(book("a", outputs=[output])))


def test_faults_finds_cells_run_out_of_order():
    mixed = book("a", "b")
    mixed.cells[0].execution_count = 7
    assert tool.faults(mixed) == ["not run from top to bottom"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository with one committed notebook, for the tool to work in."""
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    monkeypatch.setattr(tool, "COPIES", tmp_path / "copies")
    measured = nbformat.v4.new_code_cell("import time; print(time.time())")
    measured.metadata["tags"] = ["nbval-ignore-output"]
    cells = [nbformat.v4.new_code_cell("print(1 + 1)"), measured]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "00_one.ipynb")
    assert tool.main([]) == 0

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    git("init")
    git("add", "00_one.ipynb")
    git("commit", "-m", "one")
    return tmp_path


def test_running_twice_changes_nothing_and_keeps_no_copy(folder, capsys):
    path = folder / "00_one.ipynb"
    before = path.read_bytes()
    assert tool.main(["00"]) == 0
    assert path.read_bytes() == before
    assert "unchanged" in capsys.readouterr().out
    copies = [copy.name for copy in (folder / "copies").iterdir()]
    assert len(copies) == 1, "only the fixture's own first run, before git held the notebook"


def test_new_prose_leaves_the_saved_measurements(folder):
    path = folder / "00_one.ipynb"
    edited = nbformat.read(path, as_version=4)
    measured = edited.cells[1].outputs
    edited.cells.insert(0, nbformat.v4.new_markdown_cell("A word before."))
    nbformat.write(edited, path)
    assert tool.main([]) == 0
    assert nbformat.read(path, as_version=4).cells[2].outputs == measured


def test_fresh_measures_anew(folder, monkeypatch):
    path = folder / "00_one.ipynb"
    before = path.read_bytes()
    monkeypatch.setenv("FRESH", "1")
    assert tool.main([]) == 0
    assert path.read_bytes() != before


def test_edits_that_git_does_not_hold_are_copied_before_they_are_overwritten(folder, capsys):
    path = folder / "00_one.ipynb"
    edited = nbformat.read(path, as_version=4)
    edited.cells[0].source = "print('my own work')"
    nbformat.write(edited, path)
    mine = path.read_bytes()
    assert tool.main([]) == 0
    out = capsys.readouterr().out
    copy = pathlib.Path(re.search(r"a copy is in (\S+)", out)[1])
    assert copy.read_bytes() == mine and "had edits that git does not hold" in out
    assert nbformat.read(path, as_version=4).cells[0].outputs[0].text == "my own work\n"


def test_an_error_in_a_cell_leaves_the_notebook_as_it_was(folder):
    path = folder / "00_one.ipynb"
    broken = nbformat.read(path, as_version=4)
    broken.cells[0].source = "1 / 0"
    nbformat.write(broken, path)
    before = path.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        tool.main([])
    assert path.read_bytes() == before


def test_a_prefix_that_no_notebook_has_is_told(folder, capsys):
    assert tool.main(["77"]) == 2
    assert "begins with '77'" in capsys.readouterr().err


def test_tidy_saves_as_kept_without_running(folder, capsys):
    path = folder / "00_one.ipynb"
    before = path.read_bytes()
    assert tool.main(["--tidy"]) == 0
    assert path.read_bytes() == before and "unchanged, not run" in capsys.readouterr().out
    dirty = nbformat.read(path, as_version=4)
    dirty.cells[0].source = "1 / 0"
    dirty.metadata["widgets"] = {}
    nbformat.write(dirty, path)
    assert tool.main(["--tidy"]) == 0
    saved = nbformat.read(path, as_version=4)
    assert saved.cells[0].source == "1 / 0" and "widgets" not in saved.metadata


def test_check_writes_nothing_and_fails_on_a_fault(folder, capsys):
    path = folder / "00_one.ipynb"
    assert tool.main(["--check"]) == 0
    dirty = nbformat.read(path, as_version=4)
    dirty.metadata["widgets"] = {}
    nbformat.write(dirty, path)
    before = path.read_bytes()
    assert tool.main(["--check"]) == 1
    assert path.read_bytes() == before


def core_and_deeper(book):
    """Each code cell's syntax tree, and whether it stands in a part that is marked as deeper."""
    deeper = 0
    for cell in book.cells:
        heading = re.match(r"(##+) (.*)", cell.source) if cell.cell_type == "markdown" else None
        if heading:
            level = len(heading[1])
            if level <= deeper and not heading[2].startswith(("Predict", "Why")):
                deeper = 0
            if not deeper and "deeper" in heading[2].lower():
                deeper = level
        if cell.cell_type == "code" and not cell.source.startswith("%%"):
            yield ast.parse(cell.source), bool(deeper)


def defined(tree):
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(one.asname or one.name).split(".")[0] for one in node.names}
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@pytest.mark.parametrize("name", BOOKS)
def test_no_core_cell_needs_anything_from_a_deeper_part(name):
    core, elsewhere = set(), set()
    for tree, deeper in core_and_deeper(BOOKS[name]):
        if deeper:
            elsewhere |= defined(tree)
            continue
        core |= defined(tree)
        read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not (read & elsewhere) - core, ast.unparse(tree)[:200]


@pytest.mark.parametrize("name", BOOKS)
def test_predictions_can_be_made_and_are_answered(name):
    source = "\n".join(cell.source for cell in code(BOOKS[name]))
    assert len(re.findall(r"^\w+ = predict\(", source, re.M)) >= prose(BOOKS[name]).count(
        "### Predict"
    )
    folded = [
        cell for cell in code(BOOKS[name]) if cell.metadata.get("jupyter", {}).get("outputs_hidden")
    ]
    assert sum(".came_out(" in cell.source for cell in folded) == source.count(".came_out(")
    # What JupyterLab shows of a folded output is how the first one begins.
    assert all(cell.outputs[0].get("data") == {} for cell in folded if cell.outputs)
