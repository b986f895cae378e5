"""Draw a terminal session: run commands in the root of the checkout, and draw them with their output.

. ./path.sh; python3 docs/terminal.py docs/terminal.png './run.sh' 'head -25 exp/hybrid/results.txt'
"""

import argparse
import subprocess
import textwrap
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
SIZE, MARGIN, COLUMNS = 15, 16, 100  # pixels, pixels, characters
BACKGROUND, TEXT, COMMAND = "#1e1e2e", "#cdd6f4", "#a6e3a1"


def session(commands: list[str]) -> list[tuple[str, str]]:
    """Each line of the session with its colour.

    Raises:
        CalledProcessError: a command failed.
    """
    lines = []
    for command in commands:
        lines.append((f"$ {command}", COMMAND))
        done = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
        for line in done.stdout.splitlines():
            lines += [(part, TEXT) for part in textwrap.wrap(line, COLUMNS, drop_whitespace=False) or [""]]
    return lines


def draw(lines: list[tuple[str, str]]) -> Image.Image:
    """The picture of the session."""
    font = ImageFont.truetype(str(FONT), SIZE)
    height, width = round(SIZE * 1.35), font.getlength("m")
    size = (round(COLUMNS * width) + 2 * MARGIN, len(lines) * height + 2 * MARGIN)
    image = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(image)
    for row, (text, colour) in enumerate(lines):
        pen.text((MARGIN, MARGIN + row * height), text, colour, font)
    return image


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("commands", nargs="+", metavar="COMMAND", help="a command line for bash")
    args = parser.parse_args()
    draw(session(args.commands)).save(args.picture, optimize=True)
