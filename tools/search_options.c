/* Options of the methods that search in integers: the common ones here, those of each stage in a function of its own.
 */
#include "tools/search_options.h"

#include "core/data/mixup.h"
#include "tools/setup.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

qe_status qe_set_method_default(qe_options *options, const char *name, const char *value) {
  if (qe_option_source(options, name) != QE_FROM_DEFAULT) return QE_OK;
  return qe_option_set(options, name, value, QE_FROM_DEFAULT, name, "default of the method");
}

/* Of the grids of so many bits the one from which nearest rounding with a step a channel starts best
 * (docs/coevolution.md has the figures). */
static const char *best_rule(int64_t bits) {
  return bits <= 2 || bits == 4 ? "l2-odd" : bits == 3 ? "l2" : "lsq";
}

qe_status qe_search_defaults(qe_options *options, const qe_dataset *data) {
  char held_out[32];
  snprintf(held_out, sizeof held_out, "%d", data->train_images / 10);
  QE_TRY(qe_set_method_default(options, "weight-quantizer", best_rule(qe_option_int(options, "weight-bits"))));
  QE_TRY(qe_set_method_default(options, "per-channel", "true"));
  QE_TRY(qe_set_method_default(options, "save-every", "10"));
  return qe_set_method_default(options, "held-out", held_out);
}

static qe_status read_loss(const qe_options *options, qe_fitness_loss *loss) {
  static const char *const names[] = {
      [QE_FITNESS_LABELS] = "labels", [QE_FITNESS_TEACHER] = "teacher", [QE_FITNESS_BOTH] = "both"};
  for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
    if (qe_option_is(options, "fitness", names[i])) {
      *loss = (qe_fitness_loss)i;
      return QE_OK;
    }
  return qe_fail(QE_USAGE, "--fitness %s: not known", qe_option_text(options, "fitness"));
}

static qe_status read_fitness(const qe_options *options, qe_fitness_options *fitness) {
  qe_train_options train = {0};
  qe_read_augmentation(options, &train);
  *fitness = (qe_fitness_options){.held_out = (int32_t)qe_option_int(options, "held-out"),
                                  .pad = train.pad,
                                  .flip = train.flip,
                                  .cutout = train.cutout,
                                  .temperature = (int32_t)qe_option_int(options, "temperature"),
                                  .memory = (size_t)qe_option_int(options, "memory") << 20};
  for (int k = 0; k < QE_JITTERS; k++) fitness->jitter[k] = (int32_t)lround(train.jitter[k] * QE_JITTER_ALL);
  fitness->mixup = (int32_t)lround(train.mixup * QE_MIXUP_ONE);
  return read_loss(options, &fitness->loss);
}

static qe_eda_options read_eda(const qe_options *options) {
  return (qe_eda_options){
#define QE_EDA_INT(field, name, initial, least, most, help) .field = (int32_t)qe_option_int(options, "eda-" name),
#define QE_EDA_FLAG(field, name, initial, help) .field = qe_option_flag(options, "eda-" name),
#include "core/evolve/eda_options.def"
#undef QE_EDA_INT
#undef QE_EDA_FLAG
      .group_by = qe_eda_grouping_find(qe_option_text(options, "eda-group-by")),
      .augmented = qe_option_flag(options, "augment")};
}

static qe_votes_options read_votes(const qe_options *options) {
  return (qe_votes_options){
#define QE_VOTES_INT(field, name, initial, least, most, help) .field = (int32_t)qe_option_int(options, "votes-" name),
#define QE_VOTES_FLAG(field, name, initial, help) .field = qe_option_flag(options, "votes-" name),
#include "core/evolve/votes_options.def"
#undef QE_VOTES_INT
#undef QE_VOTES_FLAG
      .source = qe_votes_source_find(qe_option_text(options, "votes-source")),
      .augmented = qe_option_flag(options, "augment")};
}

static void read_genes(const qe_options *options, qe_evolution_options *to) {
#define QE_GENE_INT(stage, field, name, value, least, most, help)                                                      \
  to->stage.field = (int32_t)qe_option_int(options, name);
#include "core/evolve/gene_options.def"
#undef QE_GENE_INT
  to->layers.augmented = to->layers.accept.augmented = to->augmented;
  to->requant.augmented = to->requant.accept.augmented = to->augmented;
  to->neighbours.augmented = to->neighbours.accept.augmented = to->augmented;
}

static qe_local_options read_local(const qe_options *options) {
  return (qe_local_options){
#define QE_LOCAL_INT(field, name, initial, least, most, help) .field = (int32_t)qe_option_int(options, "local-" name),
#define QE_LOCAL_FLAG(field, name, initial, help) .field = qe_option_flag(options, "local-" name),
#include "core/evolve/local_options.def"
#undef QE_LOCAL_INT
#undef QE_LOCAL_FLAG
  };
}

static qe_scratch_options read_scratch(const qe_options *options) {
  return (qe_scratch_options){
#define QE_SCRATCH_INT(field, name, initial, least, most, help) .field = qe_option_int(options, "scratch-" name),
#include "core/evolve/scratch_options.def"
#undef QE_SCRATCH_INT
      .source = qe_scratch_source_find(qe_option_text(options, "scratch-source"))};
}

qe_status qe_read_search(const qe_options *options, qe_search_setting *search) {
  *search = (qe_search_setting){.stages = qe_option_text(options, "stages"),
                                .evolve = qe_option_text(options, "evolve"),
                                .teacher = qe_option_text(options, "teacher"),
                                .budget = qe_option_int(options, "budget"),
                                .save_every = (int32_t)qe_option_int(options, "save-every")};
  if (search->teacher && !*search->teacher) search->teacher = NULL;
  search->options.augmented = qe_option_flag(options, "augment");
  read_genes(options, &search->options);
  search->options.local = read_local(options);
  search->options.eda = read_eda(options);
  search->options.votes = read_votes(options);
  search->options.scratch = read_scratch(options);
  return read_fitness(options, &search->fitness);
}
