"""Panels of an SVG: lines over one axis. On white, so that a page in dark shows them as well."""


def svg(width, height, elements):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *elements, "</svg>"]) + "\n"


def panel(left, right, top, height, across, title, lines):
    """The axes, a legend, the title, and each line of (name, colour, points), from 0 to a little over the highest."""
    most = max(value for _, _, points in lines for _, value in points) * 1.15 or 1
    up = lambda value: top + height - value / most * height
    out = [f'<path d="M{left} {top} V{top + height} H{right}" fill="none" stroke="#333333"/>']
    for share in [0, 0.5, 1]:
        value = most / 1.15 * share
        out.append(f'<text x="{left - 6}" y="{up(value) + 4:.0f}" text-anchor="end">{value:.0f}</text>')
    at = left + 8
    for name, colour, points in lines:
        path_data = " ".join(f"{across(t):.1f},{up(value):.1f}" for t, value in points)
        out.append(f'<polyline points="{path_data}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
        out.append(f'<text x="{at}" y="{top - 6}" fill="{colour}">{name}</text>')
        at += 12 + 6.2 * len(name)
    out.append(f'<text x="{right}" y="{top - 6}" text-anchor="end" font-weight="bold">{title}</text>')
    return out
