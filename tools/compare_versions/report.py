"""The printed result of a comparison: a table, every difference, and what was not compared."""

from tools.compare_versions.fields import IGNORED_FIELDS, IGNORED_FILES, Finding
from tools.compare_versions.folders import Comparison

_HEADINGS = {
    "difference": "Differences",
    "sentence": "Sentences that differ (their numbers are equal)",
    "picture": "Pictures that differ (they hold words: look at them)",
}


def print_comparison(result: Comparison, title: str) -> None:
    """Print the result to stdout."""
    print("\n".join(report_lines(result, title)))


def report_lines(result: Comparison, title: str) -> list[str]:
    """Lines of the result: the table, findings by kind, fields that were not compared, and the verdict."""
    lines = [title, "", "| what was compared | files | equal | words or pictures differ | differ |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for row in result.rows.values():
        lines.append(f"| {row.what} | {row.files} | {row.equal} | {row.sentences} | {row.differing} |")
    counts = {}
    for kind, heading in _HEADINGS.items():
        found = [finding for finding in result.findings if finding.kind == kind]
        counts[kind] = len(found)
        if found:
            lines += ["", f"{heading}: {len(found)}"]
            lines += [line for finding in found for line in _lines_of(finding)]
    ignored = ", ".join(f"{name} ({why})" for name, why in (IGNORED_FIELDS | IGNORED_FILES).items())
    lines += ["", f"Not compared: {ignored}; durations, speeds and memory in printed lines; stderr.", ""]
    verdict = "equal but for sentences and pictures" if counts["sentence"] + counts["picture"] else "equal"
    lines.append(f"DIFFERENT: {counts['difference']} differences" if counts["difference"] else f"Result: {verdict}")
    return lines


def _lines_of(finding: Finding) -> list[str]:
    return [f"- {finding.file}, {finding.place}", f"    before: {finding.before}", f"    after:  {finding.after}"]
