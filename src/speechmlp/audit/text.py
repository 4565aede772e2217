"""An audit as text."""

from speechmlp.audit.findings import Audit


def format_audit(audit: Audit) -> str:
    """Returns an audit as lines of text, errors first."""
    splits = ", ".join(f"{split}: {count}" for split, count in audit.splits.items())
    lines = [f"{audit.manifest}: {audit.num_utterances} utterances of {audit.num_speakers} speakers ({splits})"]
    lines += [finding.line() for finding in audit.findings]
    lines += [
        f"{s.name}: median {s.median:g} {s.unit}, 5 % below {s.low:g}, 5 % above {s.high:g}" for s in audit.spreads
    ]
    if audit.doubts is not None:
        lines.append(f"Doubtful labels: {len(audit.doubts)}; {audit.wrong_labels} labels are probably wrong")
        lines += [
            f"  {doubt.path}: {doubt.letter}, more probably {doubt.suggested} ({doubt.margin:+.2f})"
            for doubt in audit.doubts[:10]
        ]
    errors = sum(finding.severity == "error" for finding in audit.findings)
    warnings = sum(finding.severity == "warning" for finding in audit.findings)
    lines.append(f"Kinds of errors: {errors}, kinds of warnings: {warnings}")
    return "\n".join(lines)
