"""How projects stand, from the sample and from files."""

import json
from pathlib import Path
from typing import Any

import pytest

from packs.promised import check
from packs.talking import talking

STATUS = "project__get_status"
LIST = "project__list_projects"
MINE = """
projects:
  - name: Dự án Một
    status: at_risk
    due: 2026-12-24
    delay_days: 3
    as_of: 2026-11-20
    lead: Ann
    milestones:
      - {name: First, due: 2026-11-30, done: true}
      - {name: Second, due: 2026-12-10}
"""


async def test_the_sample_has_a_project_that_is_seven_days_late() -> None:
    async with talking("communication") as team:
        found = await team.call(STATUS, project_name="project alpha")
        listed = await team.call(LIST)
        late = await team.call(LIST, status="delayed")
        one = await team.call(LIST, limit=1)
    check("communication", "project/get_status", found)
    check("communication", "project/list_projects", one)
    assert (found["project_name"], found["status"], found["delay_days"]) == ("Project Alpha", "delayed", 7)
    assert (found["due"], found["expected"]) == ("2026-12-11", "2026-12-18")
    assert [each["name"] for each in found["open_milestones"]] == ["Integration", "Acceptance"]
    assert found["source"] == "sample"
    assert [each["name"] for each in late["projects"]] == ["Project Alpha"]
    assert len(listed["projects"]) == listed["total"] == 3
    assert (len(one["projects"]), one["total"]) == (1, 3)


@pytest.mark.parametrize("name", ["projects.yaml", "status/projects.json"])
async def test_a_file_says_how_projects_stand_and_is_read_anew(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(PLAIN) if name.endswith("json") else MINE
    path.write_text(text)
    async with talking("communication", root=str(tmp_path), projects=name) as team:
        found = await team.call(STATUS, project_name="dự án  một")
        assert (found["status"], found["expected"], found["source"]) == ("at_risk", "2026-12-27", name)
        assert [each["name"] for each in found["open_milestones"]] == ["Second"]
        path.write_text(text.replace("at_risk", "delayed"))
        assert (await team.call(STATUS, project_name="Dự án Một"))["status"] == "delayed"
        assert "There is no project" in await team.refusal(STATUS, project_name="Project Alpha")


PLAIN: dict[str, Any] = {
    "projects": [
        {
            "name": "Dự án Một",
            "status": "at_risk",
            "due": "2026-12-24",
            "delay_days": 3,
            "as_of": "2026-11-20",
            "milestones": [
                {"name": "First", "due": "2026-11-30", "done": True},
                {"name": "Second", "due": "2026-12-10"},
            ],
        }
    ]
}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("projects: [", "not YAML"),
        ("projects: 1", "array"),
        ("projects: [{name: A, status: late, due: 2026-12-24, as_of: 2026-11-20}]", "status"),
        ("projects: [{name: A, status: done, due: soon, as_of: 2026-11-20}]", "due"),
        ("projects: [{name: A, status: done, due: 2026-12-24, as_of: 2026-11-20, colour: red}]", "colour"),
        ("projects: []\nprojects: []", "twice"),
        ("a: &a [1]\nprojects: *a", "aliases"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
        ("projects: " + "[" * 3000, "cannot be read"),
        ("\x00", "cannot be read"),
        ("#" * 300_000, "larger than"),
    ],
)
async def test_a_file_that_is_no_good_is_said_with_what_is_wrong(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "projects.yaml").write_text(text)
    async with talking("communication", root=str(tmp_path), projects="projects.yaml") as team:
        assert word in await team.refusal(STATUS, project_name="A")
        assert "projects.yaml" in await team.refusal(LIST)


async def test_a_file_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "projects.yaml").write_text(MINE)
    (root / "link.yaml").symlink_to(tmp_path / "projects.yaml")
    for path in ("../projects.yaml", "link.yaml", str(tmp_path / "projects.yaml"), "missing.yaml"):
        async with talking("communication", root=str(root), projects=path) as team:
            assert "Ann" not in await team.refusal(STATUS, project_name="Dự án Một")


@pytest.mark.parametrize(
    ("name", "word"),
    [("Projekt Alpha", "Did you mean Project Alpha"), ("zzz", "list_projects"), ("A\x1b[31m" * 40, "no project")],
)
async def test_a_name_that_is_none_gets_those_that_are_near(name: str, word: str) -> None:
    async with talking("communication") as team:
        said = await team.refusal(STATUS, project_name=name[:200])
    assert word in said
    assert said.isprintable()


OUTSIDE: list[Any] = [
    (STATUS, {}),
    (STATUS, {"project_name": ""}),
    (STATUS, {"project_name": "x" * 201}),
    (STATUS, {"project_name": 7}),
    (LIST, {"limit": 0}),
    (LIST, {"limit": 501}),
    (LIST, {"status": "late"}),
    (LIST, {"all": True}),
]


async def test_arguments_outside_of_the_schema_are_refused() -> None:
    async with talking("communication") as team:
        for tool, arguments in OUTSIDE:
            await team.refusal(tool, **arguments)
