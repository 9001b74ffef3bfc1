"""Bring back the full folder of a claim, as it was when it was last committed whole: cells, results, figures, pages.

    python reproductions/restore.py islam2020          # everything of one claim
    python reproductions/restore.py islam2020/vgg16    # one part of it

The commit is the one that the section "The full folder" of the claim's README.md names. Only what is missing now is
written; what is there is never touched. The study's own command then goes on from its cells.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NAMED = re.compile(r"^## The full folder$.*?\b([0-9a-f]{40})\b", flags=re.M | re.S)


def git(*args: str, given: str = "") -> str:
    """Run git in the repository's root.

    Args:
        args: what follows `git`.
        given: what it reads from its input.

    Returns:
        What it wrote to its output.

    Raises:
        SystemExit: with git's own words, if it fails or is not there.
    """
    try:
        done = subprocess.run(["git", *args], cwd=ROOT, input=given, capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        raise SystemExit("git is not installed; the full folders are in the history of the repository.") from None
    if done.returncode:
        raise SystemExit(f"git {args[0]}: {done.stderr.strip()}")
    return done.stdout


def commits() -> dict[str, str]:
    """Each claim, and the commit that last held its full folder, as its README.md says."""
    pages = {page.parent.name: page.read_text(encoding="utf-8") for page in sorted(HERE.glob("*/README.md"))}
    return {claim: found[1] for claim, text in pages.items() if (found := NAMED.search(text))}


def commit_of(claim: str) -> str:
    """The commit of one claim.

    Raises:
        SystemExit: if there is no such claim, or this clone lacks the commit.
    """
    known = commits()
    if claim not in known:
        raise SystemExit(f"claim {claim!r} is not known; there are {', '.join(known)}.")
    require(known[claim])
    return known[claim]


def require(commit: str) -> None:
    """Do nothing if this clone holds a commit.

    Raises:
        SystemExit: if it does not, with the command that fetches it.
    """
    shallow = git("rev-parse", "--is-shallow-repository").strip() == "true"
    found = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True)
    if found.returncode:
        how = "git fetch --unshallow" if shallow else f"git fetch origin {commit}"
        raise SystemExit(f"this {'shallow ' if shallow else ''}clone lacks commit {commit}; run `{how}` and try again.")


def files_of(commit: str, part: str) -> list[str]:
    """Names, from the repository's root, of the files that a commit holds in a claim or a part of one.

    Raises:
        SystemExit: if it holds none.
    """
    claim = f"{HERE.name}/{part.split('/')[0]}/"
    held = git("ls-tree", "-r", "-z", "--name-only", commit, "--", claim).split("\0")[:-1]
    inside = [name for name in held if name.startswith(f"{HERE.name}/{part}/")]
    if not inside:
        parts = sorted({str(Path(name).parent.relative_to(HERE.name)) for name in held if "/cells/" not in name})
        raise SystemExit(f"there is no folder {part!r} in {commit}; there are {', '.join(parts)}.")
    return inside


def restore(part: str) -> str:
    """Write what is missing of a claim, or of a part of one, into the working tree.

    Args:
        part: a folder's name here, such as `islam2020` or `islam2020/vgg16`.

    Returns:
        What was done, in words.
    """
    commit = commit_of(part.split("/")[0])
    held = files_of(commit, part)
    missing = [name for name in held if not os.path.lexists(ROOT / name)]
    if missing:
        names = ("--pathspec-from-file=-", "--pathspec-file-nul")
        git("--literal-pathspecs", "restore", f"--source={commit}", "--worktree", *names, given="\0".join(missing))
    return f"{part}: {len(missing)} files restored from {commit[:12]}, {len(held) - len(missing)} were here and stay."


def main() -> None:
    """Read the command line, restore, say what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help=f"{', '.join(commits())}; or a part of one, such as islam2020/vgg16")
    folder = Path(parser.parse_args().folder).as_posix().removeprefix(f"{HERE.name}/")
    print(restore(folder))


if __name__ == "__main__":
    main()
