"""Three SVG plots out of the raw lines of a run, with nothing but the standard library."""

import sys
from html import escape
from math import ceil, floor, log10

from results import NAMES, Results, size

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 80, 30, 74, 60
COLOURS = {"b": "#7a7a7a", "bp": "#b0b0b0", "e": "#d9660a", "f": "#1667b7", "g": "#1d8a4a"}
OURS = {"e", "f", "g"}


class Plot:
    def __init__(self, title, height=HEIGHT):
        self.height = height
        # White behind everything: it is shown on dark pages too.
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
                      'font-family="sans-serif" font-size="13" fill="#222">',
                      f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>']
        self.text(20, 28, title, size=16, weight="bold")

    def text(self, x, y, words, anchor="start", size=13, weight="normal"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
                          f'font-weight="{weight}">{escape(words)}</text>')

    def rect(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def line(self, x1, y1, x2, y2, colour="#ddd"):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>')

    def write(self, path):
        with open(path, "w") as file:
            file.write("\n".join([*self.parts, "</svg>", ""]))


def steps(most):
    """Round values from 0 to just above the largest."""
    unit = 10 ** floor(log10(most))
    step = next(unit * share for share in (0.2, 0.5, 1, 2) if most / (unit * share) <= 6)
    return [step * i for i in range(ceil(most / step) + 1)]


def bars(results, path):
    plot = Plot(f"Checks a second: {size(results.main)} tokens, 2 clients (median; line: min to max)", 60 + 38 * len(NAMES))
    start, most = 300, max(results.get("throughput", who) for who in NAMES)
    across = lambda value: start + value / most * (WIDTH - start - 90)
    for place, (who, name) in enumerate(NAMES.items()):
        y = 50 + 38 * place
        lowest, middle, highest = results.spread("throughput", who)
        plot.text(start - 10, y + 17, name, "end")
        plot.rect(start, y, across(middle) - start, 24, COLOURS[who] if who in OURS else "#9a9a9a")
        plot.line(across(lowest), y + 12, across(highest), y + 12, "#222")
        plot.text(across(highest) + 6, y + 17, f"{middle:,.0f}")
    plot.write(path)


def lines(title, x_label, y_label, ticks, series, path):
    """Series of one value per tick; the ticks stand at equal distances."""
    plot = Plot(title, HEIGHT + 20 * len(series))
    values = steps(max(value for _, line in series for value in line))
    down = lambda value: HEIGHT - BOTTOM - value / values[-1] * (HEIGHT - TOP - BOTTOM)
    across = lambda place: LEFT + (place + 0.5) * (WIDTH - LEFT - RIGHT) / len(ticks)
    for value in values:
        plot.line(LEFT, down(value), WIDTH - RIGHT, down(value))
        plot.text(LEFT - 8, down(value) + 4, f"{value:,.0f}" if values[1] >= 1 else f"{value:.1f}", "end")
    plot.text(20, TOP - 22, y_label, size=12)
    for place, tick in enumerate(ticks):
        plot.text(across(place), HEIGHT - BOTTOM + 20, tick, "middle")
    plot.text(WIDTH / 2, HEIGHT - BOTTOM + 42, x_label, "middle", 12)
    for number, (who, line) in enumerate(series):
        points = " ".join(f"{across(place):.1f},{down(value):.1f}" for place, value in enumerate(line))
        dashes = "" if who in OURS else ' stroke-dasharray="6 4"'
        plot.parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[who]}" stroke-width="2.5"{dashes}/>')
        for place, value in enumerate(line):
            plot.parts.append(f'<circle cx="{across(place):.1f}" cy="{down(value):.1f}" r="4" fill="{COLOURS[who]}"/>')
        y = HEIGHT + 20 * number
        plot.rect(LEFT, y - 5, 24, 4, COLOURS[who])
        shown = ", ".join(f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in line)
        plot.text(LEFT + 32, y + 1, f"{NAMES[who]}: {shown}")
    plot.write(path)


def main():
    results, folder = Results(sys.argv[1]), sys.argv[2]
    bars(results, f"{folder}/throughput.svg")
    lines(f"Checks a second by clients: {size(results.main)} tokens", "clients", "checks a second",
          [str(count) for count in results.clients],
          [(who, [results.get("clients", who, clients=count) for count in results.clients])
           for who in ("b", "e", "bp", "f")], f"{folder}/clients.svg")
    lines("In the server by size of the table: µs per check", "tokens in the table", "µs per check",
          [size(tokens) for tokens in results.sizes],
          [(who, [results.get("in_server", who, tokens, 1) for tokens in results.sizes])
           for who in ("b", "e", "bp", "f", "g")], f"{folder}/in-server.svg")


main()
