/* qevo-gpu man: manual pages from the tables of commands, options and examples, as roff for man(7). */
#include "core/base/json.h"
#include "core/base/nearest.h"
#include "tools/command.h"

#include <stdint.h>
#include <string.h>

/* Text with what roff would take for its own escaped; everything but ASCII by its code point. */
static void put(const char *text) {
  bool first = true;
  for (int length; (length = qe_utf8_length(text)) > 0; text += length, first = false) {
    static const unsigned char mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t code = (unsigned char)text[0] & mask[length];
    for (int i = 1; i < length; i++) code = code << 6 | ((unsigned char)text[i] & 0x3F);
    if (length > 1)
      printf("\\[u%04X]", code);
    else if (*text == '\\')
      printf("\\e");
    else if (*text == '-')
      printf("\\-");
    else if (*text == '\'')
      printf("\\(aq");
    else if (*text == '~')
      printf("\\(ti");
    else if (*text == '^')
      printf("\\(ha");
    else
      printf("%s%c", first && *text == '.' ? "\\&" : "", *text);
  }
}

static void section(const char *name) {
  printf(".SH %s\n", name);
}

static void text_line(const char *text) {
  put(text);
  putchar('\n');
}

/* ---- options ---- */

static void option(const qe_option *row) {
  char help[QE_OPTION_HELP_TEXT];
  const char *metavar = qe_option_metavar(row);
  puts(".TP");
  if (row->letter) printf("\\fB\\-%c\\fR, ", row->letter);
  printf("\\fB\\-\\-%s", qe_option_is_on(row) ? "[no\\-]" : "");
  put(row->name);
  printf("\\fR");
  if (*metavar) {
    printf(" \\fI");
    put(metavar);
    printf("\\fR");
  }
  putchar('\n');
  text_line(qe_option_help(row, help));
}

static bool is_first_of_group(const char *command, size_t row) {
  for (size_t i = 0; i < row; i++)
    if (qe_option_is_of(&qe_option_table[i], command) &&
        strcmp(qe_option_table[i].group, qe_option_table[row].group) == 0)
      return false;
  return true;
}

static void options_of(const char *command) {
  for (size_t i = 0; i < qe_option_table_rows; i++) {
    const char *group = qe_option_table[i].group;
    if (!qe_option_is_of(&qe_option_table[i], command) || !is_first_of_group(command, i)) continue;
    printf(".SS %c%s\n", *group >= 'a' && *group <= 'z' ? *group - 'a' + 'A' : *group, group + 1);
    for (size_t j = i; j < qe_option_table_rows; j++)
      if (qe_option_is_of(&qe_option_table[j], command) && strcmp(qe_option_table[j].group, group) == 0)
        option(&qe_option_table[j]);
  }
}

/* ---- pages ---- */

static void examples_of(const char *command, int most) {
  const qe_example *example;
  for (int i = 0; i < most && (example = qe_example_get(command, i)); i++) {
    printf(".TP\n\\fBqevo\\-gpu %s ", command);
    put(example->arguments);
    puts("\\fR");
    text_line(example->text);
  }
}

static void ending(void) {
  section("EXIT STATUS");
  text_line(QE_EXIT_CODES ".");
  section("ENVIRONMENT");
  puts(".TP\n\\fBQEVO_DATA_DIR\\fR");
  text_line("where data sets lie, after --data-dir and before ~/.cache/qevo-gpu");
  puts(".TP\n\\fBQEVO_BACKEND_DIR\\fR");
  text_line("the only folder where loadable backends are looked for, rather than beside the library");
}

static void main_page(void) {
  puts(".TH QEVO\\-GPU 1 \"\" \"qevo\\-gpu " QE_VERSION "\" \"User Commands\"");
  section("NAME");
  text_line("qevo-gpu - trainer for low-bit neural networks");
  section("SYNOPSIS");
  puts("\\fBqevo\\-gpu\\fR \\fICOMMAND\\fR [\\fIarguments\\fR] [\\fIoptions\\fR]");
  section("DESCRIPTION");
  text_line("Trains neural networks whose weights and activations are integers of 1 to 8 bits, by several methods on "
            "several compute backends. What is trained runs as an integer network, the same bits on every backend.");
  section("COMMANDS");
  for (int i = 0; qe_command_get(i); i++) {
    printf(".TP\n\\fB%s\\fR \\fI", qe_command_get(i)->name);
    put(qe_command_get(i)->arguments);
    puts("\\fR");
    text_line(qe_command_get(i)->summary);
  }
  section("EXAMPLES");
  for (int i = 0; qe_command_get(i); i++) examples_of(qe_command_get(i)->name, 1);
  ending();
  section("SEE ALSO");
  for (int i = 0; qe_command_get(i); i++)
    printf("\\fBqevo\\-gpu\\-%s\\fR(1)%s\n", qe_command_get(i)->name, qe_command_get(i + 1) ? "," : "");
}

static void command_page(const qe_command *command) {
  printf(".TH \"QEVO\\-GPU\\-%s\" 1 \"\" \"qevo\\-gpu " QE_VERSION "\" \"User Commands\"\n", command->name);
  section("NAME");
  printf("qevo\\-gpu\\-%s \\- ", command->name);
  text_line(command->summary);
  section("SYNOPSIS");
  printf("\\fBqevo\\-gpu %s\\fR \\fI", command->name);
  put(command->arguments);
  puts("\\fR [\\fIoptions\\fR]");
  section("DESCRIPTION");
  text_line("Options may also stand in a YAML file (--config), by the same names without dashes before them; the "
            "command line wins over it, and it over a recipe.");
  section("OPTIONS");
  options_of(command->name);
  section("EXAMPLES");
  examples_of(command->name, INT32_MAX);
  ending();
  section("SEE ALSO");
  puts("\\fBqevo\\-gpu\\fR(1)");
}

qe_status qe_cmd_man(qe_options *options) {
  const char *name = qe_options_positional(options, 0);
  if (!name) {
    main_page();
    return QE_OK;
  }
  const qe_command *command = qe_command_find(name);
  if (command) {
    command_page(command);
    return QE_OK;
  }
  char hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  for (int i = 0; qe_command_get(i); i++) qe_nearest_offer(&nearest, qe_command_get(i)->name);
  return qe_fail(QE_USAGE, "no command is called '%s'; 'qevo-gpu --help' lists them%s", name,
                 qe_nearest_hint(&nearest, "", hint));
}
