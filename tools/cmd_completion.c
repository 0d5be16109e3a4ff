/* qevo-gpu completion: what bash, zsh and fish need to complete commands, options and values, from the option table. */
#include "core/base/nearest.h"
#include "tools/command.h"
#include "tools/values.h"

#include <string.h>

/* ---- what all shells share ---- */

/* Text within single quotes; `escape`: characters that get a backslash as well. */
static void put_quoted(const char *text, const char *escape, const char *quote) {
  for (; *text; text++) {
    if (*text == '\'')
      fputs(quote, stdout);
    else if (strchr(escape, *text))
      printf("\\%c", *text);
    else
      putchar(*text);
  }
}

/* A quote within single quotes, for shells of the Bourne family and for fish. */
#define SHELL_QUOTE "'\\''"
#define FISH_QUOTE "\\'"

static void put_value(void *context, const char *value) {
  const char **between = context;
  printf("%s%s", *between, value);
  *between = " ";
}

static bool put_values(const qe_option *row) {
  const char *between = "";
  return qe_values_of_option(row, put_value, &between);
}

static void ignore_value(void *context, const char *value) {
  (void)context, (void)value;
}

static bool has_values(const qe_option *row) {
  return qe_values_of_option(row, ignore_value, NULL);
}

static const qe_option *row_of(size_t index, const char *command) {
  const qe_option *row = &qe_option_table[index];
  return qe_option_is_of(row, command) && row->type != QE_OPTION_STEPS ? row : NULL; /* steps are for files */
}

/* ---- bash ---- */

static void bash_commands(void) {
  for (int i = 0; qe_command_get(i); i++) printf("%s ", qe_command_get(i)->name);
}

/* What follows an option: its names, a file, or something that is not known. Flags take nothing. */
static void bash_value(const qe_option *row) {
  if (row->type == QE_OPTION_FLAG) return;
  printf("  --%s", row->name);
  if (row->letter) printf(" | -%c", row->letter);
  printf(") ");
  if (row->type == QE_OPTION_PATH) {
    puts("files=yes ;;");
  } else if (has_values(row)) {
    printf("words='");
    put_values(row);
    puts("' ;;");
  } else {
    puts("return ;;");
  }
}

static void bash_command(const char *command) {
  const char *between = "";
  printf("  %s/-*) words='", command);
  for (size_t i = 0; i < qe_option_table_rows; i++) {
    const qe_option *row = row_of(i, command);
    if (row) printf("%s%s ", qe_option_is_on(row) ? "--no-" : "--", row->name);
  }
  printf("--help' ;;\n  %s/*) ", command);
  if (qe_argument_is_file(command)) {
    puts("files=yes ;;");
  } else {
    printf("words='");
    qe_values_of_argument(command, put_value, &between);
    puts("' ;;");
  }
}

static void bash(void) {
  puts("# bash completion of qevo-gpu, by 'qevo-gpu completion bash'\n_qevo_gpu() {\n"
       "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words='' files=''\n"
       "  if [[ $current == = ]]; then\n    current=''\n"
       "  elif [[ $before == = ]]; then\n    before=${COMP_WORDS[COMP_CWORD - 2]}\n  fi\n"
       "  COMPREPLY=()\n  case $before in");
  for (size_t i = 0; i < qe_option_table_rows; i++) bash_value(&qe_option_table[i]);
  puts("  *)\n    case ${COMP_WORDS[1]}/$current in");
  for (int i = 0; qe_command_get(i); i++) bash_command(qe_command_get(i)->name);
  puts("    esac\n    ;;\n  esac");
  printf("  if ((COMP_CWORD == 1)); then words='");
  bash_commands();
  puts("help --help --version' files=''; fi\n"
       "  if [[ $files ]]; then\n    compopt -o filenames\n    mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
       "  else\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n  fi\n}\n"
       "complete -F _qevo_gpu qevo-gpu");
}

/* ---- zsh ---- */

/* '(-b --backend)'{-b+,--backend=}'[help]:NAME:(auto cpu)' */
static void zsh_option(const qe_option *row) {
  bool is_flag = row->type == QE_OPTION_FLAG, often = strcmp(row->name, "set") == 0;
  const char *dashes = qe_option_is_on(row) ? "--no-" : "--", *end = is_flag ? "" : "=";
  printf("      ");
  if (row->letter && !often)
    printf("'(-%c %s%s)'{-%c%s,%s%s%s}'", row->letter, dashes, row->name, row->letter, is_flag ? "" : "+", dashes,
           row->name, end);
  else
    printf("'%s%s%s%s", often ? "*" : "", dashes, row->name, end);
  putchar('[');
  put_quoted(row->help, "[]:\\", SHELL_QUOTE);
  putchar(']');
  if (!is_flag) {
    printf(":%s:", qe_option_metavar(row));
    if (row->type == QE_OPTION_PATH) {
      printf("_files");
    } else if (has_values(row)) {
      putchar('(');
      put_values(row);
      putchar(')');
    }
  }
  puts("' \\");
}

static void zsh_command(const qe_command *command) {
  const char *between = "";
  printf("  %s)\n    _arguments -S \\\n", command->name);
  for (size_t i = 0; i < qe_option_table_rows; i++)
    if (row_of(i, command->name)) zsh_option(row_of(i, command->name));
  printf("      '(-h --help)'{-h,--help}'[options and examples]'");
  if (command->most > 0) {
    printf(" \\\n      '%s:%s:", command->most > 1 ? "*" : "1", command->arguments);
    if (qe_argument_is_file(command->name)) {
      printf("_files");
    } else {
      putchar('(');
      qe_values_of_argument(command->name, put_value, &between);
      putchar(')');
    }
    putchar('\'');
  }
  puts("\n    ;;");
}

static void zsh(void) {
  puts("#compdef qevo-gpu\n# zsh completion of qevo-gpu, by 'qevo-gpu completion zsh'\n_qevo-gpu() {\n"
       "  local -a commands=(");
  for (int i = 0; qe_command_get(i); i++) {
    printf("    '%s:", qe_command_get(i)->name);
    put_quoted(qe_command_get(i)->summary, "\\", SHELL_QUOTE);
    puts("'");
  }
  puts("  )\n  if ((CURRENT == 2)); then\n    _describe -t commands command commands\n    return\n  fi\n"
       "  local command=$words[2]\n  shift words\n  ((CURRENT--))\n  case $command in");
  for (int i = 0; qe_command_get(i); i++) zsh_command(qe_command_get(i));
  puts("  esac\n}\nif [[ $funcstack[1] == _qevo-gpu ]]; then\n  _qevo-gpu \"$@\"\nelse\n  compdef _qevo-gpu "
       "qevo-gpu\nfi");
}

/* ---- fish ---- */

static void fish_option(const qe_option *row) {
  printf("complete -c qevo-gpu -n '__fish_seen_subcommand_from");
  for (int i = 0; qe_command_get(i); i++)
    if (qe_option_is_of(row, qe_command_get(i)->name)) printf(" %s", qe_command_get(i)->name);
  printf("' -l %s%s", qe_option_is_on(row) ? "no-" : "", row->name);
  if (row->letter) printf(" -s %c", row->letter);
  if (row->type == QE_OPTION_PATH) printf(" -r -F");
  if (row->type != QE_OPTION_FLAG && row->type != QE_OPTION_PATH) {
    printf(" -x -a '");
    put_values(row);
    putchar('\'');
  }
  printf(" -d '");
  put_quoted(row->help, "\\", FISH_QUOTE);
  puts("'");
}

static void fish_command(const qe_command *command) {
  const char *between = "";
  printf("complete -c qevo-gpu -n __fish_use_subcommand -a %s -d '", command->name);
  put_quoted(command->summary, "\\", FISH_QUOTE);
  puts("'");
  if (command->most == 0) return;
  printf("complete -c qevo-gpu -n '__fish_seen_subcommand_from %s' ", command->name);
  if (qe_argument_is_file(command->name)) {
    puts("-F");
    return;
  }
  printf("-a '");
  qe_values_of_argument(command->name, put_value, &between);
  puts("'");
}

static void fish(void) {
  puts("# fish completion of qevo-gpu, by 'qevo-gpu completion fish'\ncomplete -c qevo-gpu -f");
  for (int i = 0; qe_command_get(i); i++) fish_command(qe_command_get(i));
  for (size_t i = 0; i < qe_option_table_rows; i++) fish_option(&qe_option_table[i]);
  puts("complete -c qevo-gpu -s h -l help -d 'options and examples'");
}

/* ---- the command ---- */

static const struct {
  const char *name;
  void (*print)(void);
} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
enum { SHELLS = sizeof shells / sizeof *shells };

const char *qe_shell_name(int index) {
  return index >= 0 && index < SHELLS ? shells[index].name : NULL;
}

qe_status qe_cmd_completion(qe_options *options) {
  const char *name = qe_options_positional(options, 0);
  char hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  for (int i = 0; i < SHELLS; i++) {
    qe_nearest_offer(&nearest, shells[i].name);
    if (strcmp(shells[i].name, name) != 0) continue;
    shells[i].print();
    return QE_OK;
  }
  return qe_fail(QE_USAGE, "no completion for a shell called '%s'; there are bash, zsh and fish%s", name,
                 qe_nearest_hint(&nearest, "", hint));
}
