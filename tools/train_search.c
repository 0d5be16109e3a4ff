/* train with variables: the trials of a search over settings one after the other, or their plan. */
#include "tools/train_search.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/report/report.h"
#include "core/train/run_state.h"
#include "core/train/search_folder.h"
#include "tools/dry_run.h"
#include "tools/report_runs.h"
#include "tools/search_same.h"
#include "tools/train_choice.h"
#include "tools/trial_loop.h"
#include "tools/trial_table.h"

#include <math.h>
#include <string.h>

typedef struct searching {
  qe_options *options;
  qe_trial_space space;
  qe_trial_objectives objectives;
  qe_trial_runner runner;
  qe_trial_search_setting setting;
  qe_options *first;          /* the trial at the start, with the options of the search */
  char *config, *description; /* texts of config.yaml and search.json */
  char *journal;
} searching;

static void close_search(searching *s) {
  qe_trial_runner_close(&s->runner);
  qe_options_free(s->first);
  qe_trial_space_free(&s->space);
  qe_free(s->config);
  qe_free(s->description);
  qe_free(s->journal);
}

/* ---- what is said ---- */

qe_status qe_search_wanted(const qe_options *options, bool *wanted) {
  const char *variables = qe_option_text(options, "search-variables");
  *wanted = variables && *variables;
  for (size_t i = 0; !*wanted && i < qe_option_table_rows; i++) {
    const char *name = qe_option_table[i].name;
    if (qe_trial_is_of_search(name) && qe_option_source(options, name) == QE_FROM_COMMAND)
      return qe_fail(QE_USAGE,
                     "--%s: there are no variables to search: name them in a recipe, as in search: "
                     "{variables: {rate: {from: 0.01, to: 0.1, scale: log}}}",
                     name);
  }
  return QE_OK;
}

/* What says nothing of a search. */
static qe_status check_options(const qe_options *options) {
  const char *out = qe_option_text(options, "out");
  if (qe_option_flag(options, "find-rate"))
    return qe_fail(QE_USAGE, "--find-rate: is of one training; take the variables back by --search-variables ''");
  if (qe_option_text(options, "dump") || qe_option_text(options, "dump-dot"))
    return qe_fail(QE_USAGE, "--dump, --dump-dot: are of one network, not of a search");
  if (!qe_option_flag(options, "dry-run") && (!out || !*out))
    return qe_fail(QE_USAGE, "a search keeps its trials in files: say where by --out FOLDER");
  return QE_OK;
}

/* What all trials must have in common, and what is of the search, no step can say. */
static qe_status check_steps(const qe_options *options) {
  for (int step = 0; step < qe_options_steps(options); step++)
    for (size_t i = 0; i < qe_option_table_rows; i++) {
      const char *name = qe_option_table[i].name;
      bool common = qe_trial_has_in_common(name);
      if ((common || qe_trial_is_of_search(name)) && qe_options_step_says(options, step, name))
        return qe_fail(QE_USAGE, "step %d, %s: %s: %s: say it outside of the steps", step + 1,
                       qe_options_step_name(options, step), name,
                       common ? "a search compares its trials on the same held-out images"
                              : "a search is of the whole pipeline");
    }
  return QE_OK;
}

/* Trials are compared on training images that none has seen: a tenth unless the recipe says how many. */
static qe_status hold_out(searching *s) {
  qe_options *options = s->options;
  char text[16];
  if (qe_option_source(options, "held-out") != QE_FROM_DEFAULT)
    return qe_option_int(options, "held-out") > 0
               ? QE_OK
               : qe_fail(QE_USAGE,
                         "%s: held-out 0: a search compares its trials on held-out training images, never on "
                         "the test images; leave it out (a tenth), or give a number",
                         qe_option_origin(options, "held-out"));
  QE_TRY(qe_setup_open(options, qe_option_real(options, "crop-area"), &s->runner.setup));
  QE_TRY(qe_options_copy(options, &s->runner.opened));
  snprintf(text, sizeof text, "%d", s->runner.setup.data->train_images / 10);
  return qe_option_set(options, "held-out", text, QE_FROM_DEFAULT, "held-out", "default of searches");
}

static qe_status describe(searching *s) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_trial_space_json(&s->space, &json);
  qe_json_open_array(&json, "objectives");
  for (int32_t i = 0; i < s->objectives.count; i++) qe_json_text(&json, NULL, qe_trial_fact_name(s->objectives.of[i]));
  qe_json_close(&json);
  qe_json_text(&json, "searcher", qe_searcher_name(s->setting.searcher.kind));
  qe_json_int(&json, "population", s->setting.searcher.population);
  qe_json_int(&json, "seed", (int64_t)s->setting.searcher.seed);
  qe_json_close(&json);
  return qe_json_finish(&json, &s->description, NULL);
}

static void read_searcher(searching *s) {
  const qe_options *options = s->options;
  s->setting = (qe_trial_search_setting){
      .space = {.n = s->space.count, .variable = s->space.search, .objectives = s->objectives.count},
      .searcher = {.kind = qe_searcher_find(qe_option_text(options, "search-searcher")),
                   .population = (int32_t)qe_option_int(options, "search-population"),
                   .seed = (uint64_t)qe_option_int(options, "seed")},
      .most = (int32_t)qe_option_int(options, "search-trials"),
      .text = qe_trial_space_text,
      .context = &s->space};
}

/* Whether the searcher can search the space, said before anything is written. */
static qe_status check_searcher(const searching *s) {
  qe_searcher *searcher;
  qe_status status = qe_searcher_new(&s->setting.space, &s->setting.searcher, &searcher);
  if (status != QE_OK) return qe_fail_within(status, "search");
  qe_searcher_free(searcher);
  return QE_OK;
}

/* Options of the trial at the start, which are checked as those of any training. */
static qe_status make_first(searching *s) {
  char **text = QE_NEW_ARRAY(char *, s->space.count);
  qe_status status = text ? QE_OK : QE_NO_MEMORY;
  for (int i = 0; status == QE_OK && i < s->space.count; i++) {
    char value[QE_TRIAL_TEXT];
    qe_trial_space_text(&s->space, i, s->space.search[i].start, value);
    if (!(text[i] = qe_strdup(value))) status = QE_NO_MEMORY;
  }
  if (status == QE_OK) status = qe_trial_options(&s->runner, text, "start of the search", true, &s->first);
  for (int i = 0; text && i < s->space.count; i++) qe_free(text[i]);
  qe_free(text);
  return status == QE_OK ? qe_trial_config(&s->runner, s->first, &s->config) : status;
}

static qe_status open_search(searching *s) {
  QE_TRY(check_options(s->options));
  QE_TRY(check_steps(s->options));
  QE_TRY(qe_train_find_files(s->options));
  QE_TRY(qe_train_fix_paths(s->options));
  QE_TRY(qe_trial_objectives_read(s->options, &s->objectives));
  QE_TRY(qe_trial_space_read(s->options, &s->space));
  read_searcher(s);
  QE_TRY(check_searcher(s));
  QE_TRY(hold_out(s));
  s->runner.options = s->options;
  s->runner.space = &s->space;
  s->runner.folder = qe_option_text(s->options, "out");
  QE_TRY(make_first(s));
  return describe(s);
}

/* ---- the plan ---- */

static void print_plan(const searching *s, double seconds) {
  char text[QE_TRIAL_TEXT], time[32];
  printf("#\n# search: up to %d trials by %s; held-out %lld; best by", s->setting.most,
         qe_searcher_name(s->setting.searcher.kind), (long long)qe_option_int(s->options, "held-out"));
  for (int32_t i = 0; i < s->objectives.count; i++) printf(" %s", qe_trial_fact_name(s->objectives.of[i]));
  puts("");
  for (int i = 0; i < s->space.count; i++)
    printf("#   %-24s %s\n", s->space.variable[i].name, qe_trial_variable_text(&s->space.variable[i], text));
  if (isfinite(seconds))
    printf("# time of %d trials as long as the one at the start: about %s\n", s->setting.most,
           qe_dry_run_time(seconds * s->setting.most, time));
}

static qe_status plan_text(searching *s) {
  double seconds = 0;
  fputs(s->config, stdout);
  QE_TRY(qe_trial_plan(&s->runner, s->first, NULL, &seconds));
  print_plan(s, seconds);
  puts(QE_NOTHING_TRAINED);
  return QE_OK;
}

static qe_status plan_json(searching *s) {
  qe_json json = {0};
  double seconds = 0;
  qe_json_open_object(&json, NULL);
  qe_json_open_object(&json, "search");
  qe_trial_space_json(&s->space, &json);
  qe_json_text(&json, "searcher", qe_searcher_name(s->setting.searcher.kind));
  qe_json_int(&json, "trials", s->setting.most);
  qe_json_int(&json, "held_out", qe_option_int(s->options, "held-out"));
  qe_json_close(&json);
  qe_json_open_array(&json, "steps");
  qe_status status = qe_trial_plan(&s->runner, s->first, &json, &seconds);
  qe_json_close(&json);
  if (isfinite(seconds)) qe_json_real(&json, "seconds", seconds * s->setting.most);
  qe_json_text(&json, "config", s->config);
  qe_json_close(&json);
  if (status == QE_OK) return qe_print_json(&json);
  qe_json_drop(&json);
  return status;
}

/* ---- the result ---- */

static qe_status read_scores(const searching *s, const qe_trial_list *list, qe_run_scores *scores) {
  char *folder;
  QE_TRY(qe_trial_last_run(&s->runner, qe_trial_list_best(list) + 1, &folder));
  qe_status status = qe_run_read_scores(folder, scores);
  qe_free(folder);
  return status;
}

static void print_text(const searching *s, const qe_trial_list *list, const qe_run_scores *scores) {
  char text[QE_VALUES_TEXT];
  const qe_trial *best = &list->trial[qe_trial_list_best(list)];
  qe_trial_table_print(list);
  printf("best: trial %d, %s\n", best->number, qe_trial_values_text(list, best, text));
  printf("test accuracy: %.2f %% top-1, loss %.4f, %lld images", scores->final.top1, scores->final.loss,
         (long long)scores->final.images);
  if (scores->integer.images)
    printf("; as an integer network: %.2f %%, %.4f", scores->integer.top1, scores->integer.loss);
  printf("\nits recipe is %s/best.yaml, its model %s/best.safetensors\n", s->runner.folder, s->runner.folder);
}

static void write_result(qe_json *json, const searching *s, const qe_trial_list *list, const qe_run_scores *scores) {
  qe_json_open_object(json, NULL);
  qe_trial_table_json(list, json);
  qe_run_scores_json(json, scores);
  qe_json_text(json, "out", s->runner.folder);
  qe_json_close(json);
}

static qe_status print_result(const searching *s, const qe_trial_list *list) {
  qe_run_scores scores;
  qe_json json = {0};
  QE_TRY(read_scores(s, list, &scores));
  if (!qe_option_flag(s->options, "json")) {
    print_text(s, list, &scores);
    return QE_OK;
  }
  write_result(&json, s, list, &scores);
  return qe_print_json(&json);
}

/* The last page, with the best trial's network evaluated. */
static void write_report(searching *s) {
  qe_report *report = NULL;
  char *path = qe_path_join(s->runner.folder, "report.html");
  qe_trial_runner_close(&s->runner);
  qe_status status = path ? qe_report_new(&report) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_report_add(report, s->runner.folder);
  if (status == QE_OK) status = qe_evaluate_runs(s->first, report);
  if (status == QE_OK) status = qe_report_write(report, path, 0);
  if (status != QE_OK) fprintf(stderr, "note: %s/report.html is not written: %s\n", s->runner.folder, qe_message());
  qe_report_free(report);
  qe_free(path);
}

/* ---- the command ---- */

static void on_note(void *context, const char *text) {
  (void)context;
  fprintf(stderr, "%s\n", text);
}

static qe_status search_and_tell(searching *s) {
  qe_trial_search *search;
  qe_run_events events = {.note = on_note};
  qe_run_options place = qe_training_place(s->options, s->config);
  qe_run *run;
  place.search = s->description;
  if (place.resume) QE_TRY(qe_search_same(place.folder, s->config));
  QE_TRY(qe_run_open(&place, &events, &run));
  qe_status status = qe_trial_search_open(&s->setting, &search);
  if (status != QE_OK) {
    qe_run_close(run);
    return status;
  }
  status = qe_run_begin(run);
  if (status == QE_OK)
    status = qe_trial_loop_run(&(qe_trial_loop){.runner = &s->runner,
                                                .objectives = &s->objectives,
                                                .search = search,
                                                .most = s->setting.most,
                                                .keep_all = qe_option_is(s->options, "search-keep", "all")});
  status = qe_run_end(run, status);
  qe_run_close(run);
  if (status == QE_OK) write_report(s);
  if (status == QE_OK) status = print_result(s, qe_trial_search_list(search));
  qe_trial_search_free(search);
  return status;
}

static qe_status plan(searching *s) {
  qe_run_options place = qe_training_place(s->options, s->config);
  place.search = s->description;
  QE_TRY(qe_run_check(&place));
  return qe_option_flag(s->options, "json") ? plan_json(s) : plan_text(s);
}

qe_status qe_train_search(qe_options *options) {
  searching s = {.options = options};
  qe_status status = open_search(&s);
  bool dry = qe_option_flag(options, "dry-run");
  if (status == QE_OK && !dry) {
    s.journal = qe_path_join(s.runner.folder, QE_TRIALS_FILE);
    s.setting.journal = s.journal;
    if (!s.journal) status = QE_NO_MEMORY;
  }
  if (status == QE_OK) status = dry ? plan(&s) : search_and_tell(&s);
  close_search(&s);
  return status;
}
