"""The command line: one module a verb, each with HELP, EXAMPLE, add_arguments(parser) and run(args)."""
