from pathlib import Path

from policy_bringup.core.graph_picture import mermaid


def test_every_arrow_joins_drawn_nodes():
    lines = mermaid("sim").splitlines()
    drawn = {line.strip().split("[")[0].split("(")[0] for line in lines[1:] if "-->" not in line and "-.->" not in line}
    for line in lines:
        if "-->" in line:
            source, rest = line.strip().split(" -->")
            assert source in drawn
            assert rest.rsplit("| ", 1)[1] in drawn


def test_only_safety_points_at_the_arm_with_actions():
    arrows = [line for line in mermaid("hardware").splitlines() if "safety/action" in line]
    assert {line.strip().split(" ")[0] for line in arrows} == {"safety"}


def test_the_readme_shows_the_present_graph(config_folder: Path):
    assert mermaid("sim") in (config_folder.parent / "README.md").read_text()
