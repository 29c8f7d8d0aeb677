"""The contenders: one module a framework, the session library chosen by LOAD_VARIANT."""
