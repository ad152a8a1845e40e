"""What tests share: in-memory fakes, and contract classes that run over fakes and the real thing alike."""
