"""The reasons that code raises are the reasons the contract lists."""

from matchloop.catalog.v1.error_reason_pb2 import ErrorReason
from matchloop.errors import Reason


def test_reasons_equal_the_protos_enum() -> None:
    promised = {value.name.removeprefix("ERROR_REASON_") for value in ErrorReason.DESCRIPTOR.values}
    assert {str(reason) for reason in Reason} == promised - {"UNSPECIFIED"}
