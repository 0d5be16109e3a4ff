/* qevo-parity: the command line of the harness. */
#include "tests/parity/parity.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#ifndef PARITY_LISTS
#define PARITY_LISTS "tests/parity"
#endif

static const char usage[] =
    "qevo-parity [--quick] [--backend NAME] [--op OP] [--impl NAME] [--seed N] [--lists FOLDER] [--verbose]\n"
    "            [--cases N] [--programs N] [--populations N] [--training N] [--queues N] [--special N]\n"
    "            [--most-bytes N]\n"
    "            [--case 'OP seed=N [KEY=VALUE]...' | --case 'program|population|training|queues seed=N']\n"
    "qevo-parity --faults | --list\n"
    "Checks every usable backend against cpu_ref: N drawn cases of every op through every implementation, N drawn\n"
    "programs, N integer networks with candidates through every engine (--impl names one), N short trainings of\n"
    "every method, N pairs of cases on two queues at the same time, N cases of every op that defines what NaN and\n"
    "infinities give (fill=special); fewer with --quick. --most-bytes leaves out cases\n"
    "with larger operands. --faults checks that the harness can fail. --lists: the folder of regress.txt and "
    "refusals.txt.\n";

typedef struct command_line {
  parity_options options;
  const char *lists;
  bool quick, list, faults, verbose, bad;
} command_line;

static command_line parse(int count, char **words) {
  command_line to = {
      .options =
          {.seed = 1, .cases = -1, .programs = -1, .populations = -1, .trainings = -1, .queues = -1, .specials = -1},
      .lists = PARITY_LISTS};
  const struct {
    const char *name;
    const char **text;
    int *number;
    bool *flag;
  } options[] = {
      {"--backend", &to.options.backend, NULL, NULL},
      {"--op", &to.options.op, NULL, NULL},
      {"--impl", &to.options.impl, NULL, NULL},
      {"--case", &to.options.only_case, NULL, NULL},
      {"--lists", &to.lists, NULL, NULL},
      {"--cases", NULL, &to.options.cases, NULL},
      {"--programs", NULL, &to.options.programs, NULL},
      {"--most-bytes", NULL, &to.options.most_bytes, NULL},
      {"--populations", NULL, &to.options.populations, NULL},
      {"--training", NULL, &to.options.trainings, NULL},
      {"--queues", NULL, &to.options.queues, NULL},
      {"--special", NULL, &to.options.specials, NULL},
      {"--list", NULL, NULL, &to.list},
      {"--quick", NULL, NULL, &to.quick},
      {"--faults", NULL, NULL, &to.faults},
      {"--verbose", NULL, NULL, &to.verbose},
  };
  for (int i = 1; i < count; i++) {
    size_t k = 0, known = sizeof options / sizeof options[0];
    while (k < known && strcmp(options[k].name, words[i]) != 0) k++;
    bool has_value = i + 1 < count;
    if (strcmp(words[i], "--seed") == 0 && has_value)
      to.options.seed = strtoull(words[++i], NULL, 10);
    else if (k < known && options[k].flag)
      *options[k].flag = true;
    else if (k < known && options[k].text && has_value)
      *options[k].text = words[++i];
    else if (k < known && options[k].number && has_value)
      *options[k].number = atoi(words[++i]);
    else
      to.bad = true;
  }
  if (to.options.op && qe_op_find(to.options.op) == QE_OPS) to.bad = true;
  return to;
}

typedef struct opener {
  const qe_registry *registry;
  const char *name;
} opener;

static qe_status open_registered(void *context, const qe_open_options *options, qe_device **device) {
  const opener *from = context;
  return qe_device_open(from->registry, from->name, 0, options, device);
}

static void list_target(const parity_target *target) {
  printf("%s: %s\n", target->name, target->device[0]->name);
  for (int op = 0; op < QE_OPS; op++) {
    int count = 0;
    const qe_impl *const *impls = target->device[0]->table->impls(target->device[0], (qe_op)op, &count);
    printf("  %-18s", qe_op_get_info((qe_op)op)->name);
    for (int i = 0; i < count; i++) printf(" %s", impls[i]->name);
    puts(count ? "" : " (cpu_ref)");
  }
  int count = 0;
  if (!target->device[0]->table->fusions) return;
  const qe_fusion *const *fusions = target->device[0]->table->fusions(target->device[0], &count);
  for (int i = 0; i < count; i++) printf("  fused: %s\n", fusions[i]->name);
}

/* What the harness runs on a backend; `word` begins the text of a case of it ("" of ops; NULL: its cases are of ops as
 * well). */
typedef struct part {
  const char *word;
  parity_part run;
  size_t number;   /* where parity_options counts it */
  int full, quick; /* how many unless the command line says */
  bool of_ops;     /* it runs although --op or --impl is given */
} part;

static const part parts[] = {
    {"", parity_sweep, offsetof(parity_options, cases), 330, 66, true},
    {NULL, parity_specials, offsetof(parity_options, specials), 88, 12, true},
    {"program ", parity_programs, offsetof(parity_options, programs), 300, 60, false},
    {"population ", parity_populations, offsetof(parity_options, populations), 60, 12, false},
    {"training ", parity_trainings, offsetof(parity_options, trainings), 8, 2, false},
    {"queues ", parity_queues, offsetof(parity_options, queues), 300, 60, false},
};
enum { PARTS = sizeof parts / sizeof parts[0] };

/* The part that --case names. */
static const part *part_of_case(const char *text) {
  for (int i = 1; i < PARTS; i++)
    if (parts[i].word && strncmp(text, parts[i].word, strlen(parts[i].word)) == 0) return &parts[i];
  return &parts[0];
}

/* With --case the part that it names; with --op, --impl or a number of one part, the others only where they have a
 * number as well. */
static qe_status run_target(const command_line *command, const parity_target *target, const parity_lists *lists,
                            parity_report *report) {
  parity_options options = command->options;
  const char *one = options.only_case;
  for (int i = 0; i < PARTS; i++) {
    int *number = (int *)(void *)((char *)&options + parts[i].number);
    bool narrowed = (options.op || options.impl) && !parts[i].of_ops;
    if (*number < 0) *number = narrowed ? 0 : command->quick ? parts[i].quick : parts[i].full;
    if (one ? part_of_case(one) == &parts[i] : *number > 0) QE_TRY(parts[i].run(target, &options, lists, report));
  }
  return QE_OK;
}

static qe_status run_backends(const command_line *command, const parity_lists *lists, parity_report *report) {
  qe_registry *registry = NULL;
  QE_TRY(qe_registry_open(&registry));
  qe_status status = QE_OK;
  bool found = false;
  for (int i = 0; status == QE_OK && i < qe_registry_count(registry); i++) {
    const qe_backend_entry *entry = qe_registry_get(registry, i);
    if (command->options.backend && strcmp(command->options.backend, entry->name) != 0) continue;
    if (!entry->devices) {
      fprintf(report->out, "%s: no device: %s\n", entry->name, entry->why);
      continue;
    }
    found = true;
    parity_target target;
    opener from = {registry, entry->name};
    status = parity_target_open(&target, entry->name, open_registered, &from);
    if (status != QE_OK) break;
    if (command->list)
      list_target(&target);
    else
      status = run_target(command, &target, lists, report);
    parity_target_close(&target);
  }
  qe_registry_close(registry);
  if (status == QE_OK && !found)
    status = qe_fail(QE_NOT_FOUND, "no usable backend is called %s",
                     command->options.backend ? command->options.backend : "anything");
  return status;
}

int main(int count, char **words) {
  command_line command = parse(count, words);
  if (command.bad) {
    fputs(usage, stderr);
    return 2;
  }
  parity_crash_install();
  parity_report report;
  parity_lists lists = {0};
  parity_report_start(&report, stdout);
  report.verbose = command.verbose;
  qe_status status = command.faults ? parity_faults(&report) : parity_lists_load(command.lists, &lists);
  if (status == QE_OK && !command.faults) status = run_backends(&command, &lists, &report);
  int result = 0;
  if (!command.list) result = parity_report_close(&report);
  if (status != QE_OK) {
    fprintf(stderr, "qevo-parity: %s: %s\n", qe_status_name(status), qe_message());
    result = 1;
  }
  parity_report_end(&report);
  parity_lists_free(&lists);
  return result;
}
