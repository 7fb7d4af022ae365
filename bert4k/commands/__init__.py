"""The commands of the command line, in modules by what they are about. `bert4k.cli` has the table of them.

Results go to standard output, as plain text for people or with --json for programs, one JSON object a line; everything else goes
to standard error. A text of `-` stands for the lines of standard input. Nothing heavy is imported before a command needs it.
"""
