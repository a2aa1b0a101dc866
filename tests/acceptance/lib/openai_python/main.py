"""main.py openai|anthropic [--quick]: runs the calls of one client."""
import sys

import suite

if sys.argv[1] == "openai":
    import chat  # noqa: F401: adds its calls to the suite's
    import others  # noqa: F401
    import openai as client
else:
    import anthropic_calls  # noqa: F401
    import anthropic as client
sys.exit(1 if suite.run(f"{sys.argv[1]} {client.__version__} (Python)", "--quick" in sys.argv) else 0)
