/* The tables of subcommands and of their examples. */
#include "tools/command.h"

#include <string.h>

static const qe_command commands[] = {
#define QE_COMMAND(name, arguments, fewest, most, summary) {#name, arguments, fewest, most, summary, qe_cmd_##name},
#include "tools/commands.def"
#undef QE_COMMAND
};

static const qe_example examples[] = {
#define QE_EXAMPLE(command, arguments, text) {#command, arguments, text},
#include "tools/examples.def"
#undef QE_EXAMPLE
};

const qe_command *qe_command_get(int index) {
  return index >= 0 && (size_t)index < sizeof commands / sizeof *commands ? &commands[index] : NULL;
}

const qe_command *qe_command_find(const char *name) {
  for (int i = 0; qe_command_get(i); i++)
    if (strcmp(commands[i].name, name) == 0) return &commands[i];
  return NULL;
}

const qe_example *qe_example_get(const char *command, int index) {
  for (size_t i = 0; i < sizeof examples / sizeof *examples; i++)
    if (strcmp(examples[i].command, command) == 0 && index-- == 0) return &examples[i];
  return NULL;
}
