"""The saved cheat sheet is what torch gives now."""

import cheat_sheet


def test_saved_page_is_up_to_date():
    assert cheat_sheet.main(["--check"]) == 0


def test_a_page_that_torch_did_not_make_is_refused(tmp_path, monkeypatch, capsys):
    old = tmp_path / "page.html"
    old.write_text(cheat_sheet.PAGE.read_text().replace("ignored", "attended"))
    monkeypatch.setattr(cheat_sheet, "PAGE", old)
    assert cheat_sheet.main(["--check"]) == 1
    assert "run tools/cheat_sheet.py" in capsys.readouterr().err
    assert cheat_sheet.main([]) == 0 and cheat_sheet.main(["--check"]) == 0


def test_every_line_of_both_tables_is_on_the_page():
    page = cheat_sheet.page()
    ways, paths = cheat_sheet.ways_to_mask(), cheat_sheet.paths_of_attention()
    assert page.count("<tr>") == 2 + len(ways) + 1 + len(paths)
    assert "NaN" in page and "the only one attended" in page
