/* The table of stages, and running a list of them. */
#include "core/evolve/stages.h"

#include "core/base/nearest.h"

#include <stdio.h>
#include <string.h>

static qe_status run_layers(qe_evolution *evolution, const qe_evolution_options *options) {
  return qe_layers_run(evolution, &options->layers);
}

static qe_status run_requant(qe_evolution *evolution, const qe_evolution_options *options) {
  return qe_requant_run(evolution, &options->requant);
}

static qe_status run_neighbours(qe_evolution *evolution, const qe_evolution_options *options) {
  return qe_neighbours_run(evolution, &options->neighbours);
}

static qe_status run_eda(qe_evolution *evolution, const qe_evolution_options *options) {
  return qe_eda_run(evolution, &options->eda);
}

static qe_status run_votes(qe_evolution *evolution, const qe_evolution_options *options) {
  return qe_votes_run(evolution, &options->votes);
}

static qe_status run_calibrate(qe_evolution *evolution, const qe_evolution_options *options) {
  return qe_calibrate_run(evolution, &options->local);
}

static qe_status run_local(qe_evolution *evolution, const qe_evolution_options *options) {
  return qe_local_run(evolution, &options->local);
}

static qe_status run_scratch(qe_evolution *evolution, const qe_evolution_options *options) {
  return qe_scratch_run(evolution, &options->scratch);
}

static const qe_search_stage stages[] = {
    {"calibrate", "requantisers re-estimated: each channel's mean and deviation as the teacher's", run_calibrate},
    {"local", "codes and requantisers, layer by layer, by least squared error to the teacher", run_local},
    {"eda", "the paper's: distributions over codes, groups of the least confident weights", run_eda},
    {"votes", "votes on codes from perturbed forward passes; the true fitness accepts", run_votes},
    {"layers", "activation steps, clips, weight steps and offsets of whole layers", run_layers},
    {"requant", "multipliers and offsets of every channel", run_requant},
    {"neighbours", "moves to neighbouring codes, tried by the true fitness", run_neighbours},
    {"scratch", "training from random codes: votes of low-bit errors move integer counters", run_scratch},
    {NULL, NULL, NULL}, /* the end */
};

const qe_search_stage *qe_search_stage_get(int index) {
  const int count = (int)(sizeof stages / sizeof *stages) - 1;
  return index >= 0 && index < count ? &stages[index] : NULL;
}

static qe_status say_unknown(const char *name) {
  qe_nearest nearest = {.word = name};
  char list[256] = "", hint[QE_NEAREST_TEXT];
  size_t used = 0;
  for (int i = 0; qe_search_stage_get(i) && used < sizeof list; i++) {
    qe_nearest_offer(&nearest, qe_search_stage_get(i)->name);
    used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", qe_search_stage_get(i)->name);
  }
  return qe_fail(QE_USAGE, "--stages: no stage is called '%s'; there is %s%s", name, list,
                 qe_nearest_hint(&nearest, "", hint));
}

static qe_status find(const char *name, const qe_search_stage **stage) {
  for (int i = 0; qe_search_stage_get(i); i++)
    if (strcmp(qe_search_stage_get(i)->name, name) == 0) {
      *stage = qe_search_stage_get(i);
      return QE_OK;
    }
  return say_unknown(name);
}

qe_status qe_search_stages_find(const char *names, const qe_search_stage *stage[QE_MOST_STAGES]) {
  int count = 0;
  for (const char *at = names; *at;) {
    char name[64];
    size_t length = strcspn(at, ",");
    if (length >= sizeof name) return qe_fail(QE_USAGE, "no stage has a name as long as '%s'", at);
    if (count == QE_MOST_STAGES - 1) return qe_fail(QE_USAGE, "at most %d stages in a run", QE_MOST_STAGES - 1);
    memcpy(name, at, length);
    name[length] = 0;
    QE_TRY(find(name, &stage[count]));
    count++;
    at += length + (at[length] == ',');
  }
  stage[count] = NULL;
  return QE_OK;
}

static qe_status checkpoint(qe_evolution *evolution, qe_status (*between)(void *context, qe_evolution *evolution)) {
  if (between) QE_TRY(between(evolution->events.context, evolution));
  return evolution->events.checkpoint ? evolution->events.checkpoint(evolution->events.context, evolution) : QE_OK;
}

qe_status qe_evolution_run(qe_evolution *evolution, const qe_search_stage *const *stage,
                           const qe_evolution_options *options,
                           qe_status (*between)(void *context, qe_evolution *evolution)) {
  int count = 0;
  while (stage[count]) count++;
  if (evolution->stages_done > count)
    return qe_fail(QE_USAGE, "the run was stopped in stage %d, this list has %d: resume it with the stages that it had",
                   evolution->stages_done + 1, count);
  if (!evolution->resumed) QE_TRY(checkpoint(evolution, between));
  while (evolution->stages_done < count) {
    const qe_search_stage *now = stage[evolution->stages_done];
    evolution->stage = now->name;
    qe_status status = now->run(evolution, options);
    if (status != QE_OK) return status;
    qe_tensors_free(evolution->state);
    evolution->state = NULL;
    evolution->stages_done++;
    QE_TRY(checkpoint(evolution, between));
  }
  return QE_OK;
}
