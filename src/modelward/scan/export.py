"""A scan's result for other programs: JSON of our own, and SARIF 2.1.0 (OASIS)."""

import json
from typing import Any

from modelward._version import __version__
from modelward.scan.report import Finding, Level, Outcome, ScanReport
from modelward.scan.rules import RULES

__all__ = ["to_json", "to_sarif"]

_SARIF_LEVEL = {
    Level.INFO: "note",
    Level.LOW: "note",
    Level.MEDIUM: "warning",
    Level.HIGH: "error",
    Level.CRITICAL: "error",
}
_SCORE = {
    Level.INFO: "0.0",
    Level.LOW: "3.0",
    Level.MEDIUM: "5.5",
    Level.HIGH: "8.0",
    Level.CRITICAL: "9.5",
}
"""security-severity, as code hosts read it: above 9.0 critical, 7.0 high, 4.0 medium."""
_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def to_json(report: ScanReport) -> str:
    """The whole report as JSON text."""
    document = {
        "target": report.target,
        "verdict": report.verdict,
        "complete": report.complete,
        "severity": report.severity,
        "coverage": report.coverage(),
        "findings": [_finding(finding) for finding in report.findings],
        "parts": [
            {
                "path": part.path,
                "format": part.format,
                "outcome": part.outcome,
                "reasons": list(part.reasons),
            }
            for part in report.parts
        ],
        "notes": list(report.notes),
        "versions": report.versions,
        "seconds": round(report.seconds, 3),
    }
    return json.dumps(document, indent=2, ensure_ascii=True)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "path": finding.path,
        "offset": finding.offset,
        "where": finding.where,
        "reason": finding.reason,
        "references": list(finding.references),
    }


def to_sarif(report: ScanReport) -> str:
    """The report as one SARIF 2.1.0 run; what was not read becomes tool notifications.

    Members of archives have no address of their own: the result points at the archive and names
    the member as a logical location.
    """
    rules = list(RULES)
    document = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Modelward",
                        "semanticVersion": __version__,
                        "rules": [_rule(name) for name in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "invocations": [
                    {
                        "executionSuccessful": report.complete,
                        "toolExecutionNotifications": [
                            _notification(part.path, part.outcome, "; ".join(part.reasons))
                            for part in report.unread
                        ],
                    }
                ],
                "results": [_result(finding, rules) for finding in report.findings],
                "properties": {"verdict": report.verdict, "coverage": report.coverage()},
            }
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=True)


def _rule(name: str) -> dict[str, Any]:
    rule = RULES[name]
    return {
        "id": name,
        "shortDescription": {"text": rule.title},
        "defaultConfiguration": {"level": _SARIF_LEVEL[rule.level]},
        "properties": {
            "security-severity": _SCORE[rule.level],
            "tags": ["security", *rule.references],
        },
    }


def _result(finding: Finding, rules: list[str]) -> dict[str, Any]:
    return {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": _SARIF_LEVEL[finding.severity],
        "message": {"text": finding.reason},
        "locations": [_location(finding)],
        "properties": {
            "severity": finding.severity,
            "security-severity": _SCORE[finding.severity],
            "references": list(finding.references),
        },
    }


def _location(finding: Finding) -> dict[str, Any]:
    file, _, member = finding.path.partition("!")
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(file)}}
    if finding.offset is not None and not member:
        place["region"] = {"byteOffset": finding.offset}
    location: dict[str, Any] = {"physicalLocation": place}
    names = [{"fullyQualifiedName": finding.path, "kind": "member"}] if member else []
    if finding.where:
        names.append({"fullyQualifiedName": f"{finding.path}#{finding.where}", "kind": "element"})
    if names:
        location["logicalLocations"] = names
    return location


def _notification(path: str, outcome: Outcome, reason: str) -> dict[str, Any]:
    return {
        "level": "error" if outcome is Outcome.ERROR else "warning",
        "message": {"text": f"{path}: {reason}"},
        "locations": [
            {"physicalLocation": {"artifactLocation": {"uri": _uri(path.partition("!")[0])}}}
        ],
    }


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
