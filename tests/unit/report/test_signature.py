from __future__ import annotations

from envsnap.model.signature import SignatureFinding, SignatureVerdict
from envsnap.report import signature as report
from tests import samples

HOLDS = SignatureFinding(kind="signature", blob=samples.digest("a"), holds=True, reason="signed as localhost:5000/yolo")
STRANGE = SignatureFinding(kind="attestation", blob=samples.digest("b"), holds=False, reason="not signed with this key, or changed since")


def verdict(*findings: SignatureFinding, reasons: tuple[str, ...] = ()) -> SignatureVerdict:
    return SignatureVerdict(
        reference="localhost:5000/yolo:one",
        digest=samples.digest("image"),
        verdict="fail" if reasons else "pass",
        key=samples.digest("key"),
        findings=findings,
        reasons=reasons,
    )


def test_each_finding_is_told_and_the_answer_comes_last() -> None:
    lines = report.screen(verdict(HOLDS, STRANGE)).splitlines()
    assert lines[0].endswith(samples.digest("image"))
    assert lines[1].split()[0] == "signature" and "holds" in lines[1] and "does not hold" in lines[2]
    assert lines[-1].startswith("PASS   signed by the owner of the key sha256:")
    lines = report.screen(verdict(STRANGE, reasons=("there is no signature of this image",))).splitlines()
    assert lines[-1] == "FAIL   there is no signature of this image"


def test_the_document_has_all_of_it() -> None:
    document = report.document(verdict(HOLDS, reasons=("r",)))
    assert (document["verdict"], document["image_digest"], document["reasons"]) == ("fail", samples.digest("image"), ["r"])
    found = {"kind": "signature", "blob": samples.digest("a"), "holds": True, "reason": "signed as localhost:5000/yolo"}
    assert document["findings"] == [found | {"type": "", "result": ""}]


def test_where_a_verdict_is_missing_the_way_to_one_is_told() -> None:
    lines = report.screen(verdict(HOLDS, reasons=("no statement of type … is signed with this key",))).splitlines()
    assert any("envsnap verify localhost:5000/yolo:one --attach --sign KEY" in line for line in lines)
    assert lines[-1].startswith("FAIL")
