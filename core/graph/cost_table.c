/* What a network costs, layer by layer: one table for graphs and for integer networks. */
#include "core/graph/cost_table.h"

#include "core/base/alloc.h"

#include <string.h>

static qe_status add_row(qe_cost_table *table, qe_cost_row row) {
  QE_TRY(qe_reserve(&table->row, &table->capacity, table->rows + 1, sizeof row));
  table->row[table->rows++] = row;
  return QE_OK;
}

static qe_status give_up(qe_cost_table *table, qe_status status) {
  if (status != QE_OK) qe_cost_table_free(table);
  return status;
}

static qe_status graph_rows(const qe_graph *graph, qe_cost_table *table) {
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    qe_cost cost = qe_graph_cost(graph, (qe_node)i);
    if (cost.macs == 0) continue;
    qe_cost_row row = {.layer = node->name,
                       .weight_bits = node->quantizer.bits,
                       .act_bits = qe_graph_bits(graph, node->input[0]),
                       .params = cost.params,
                       .macs = cost.macs,
                       .bit_ops = cost.bit_ops,
                       .bytes = (cost.bits + 7) / 8};
    QE_TRY(add_row(table, row));
  }
  return QE_OK;
}

qe_status qe_cost_of_graph(const qe_graph *graph, qe_cost_table *table) {
  qe_cost cost = qe_graph_cost(graph, -1);
  *table = (qe_cost_table){.sum = {.layer = "all layers",
                                   .params = cost.params,
                                   .macs = cost.macs,
                                   .bit_ops = cost.bit_ops,
                                   .bytes = (cost.bits + 7) / 8}};
  return give_up(table, graph_rows(graph, table));
}

static qe_cost_row network_row(const qe_network *network, size_t at) {
  const qe_network_layer *layer = &network->layer[at];
  int64_t count = qe_count(&layer->weight_desc);
  int bits = layer->grid.bits, act = qe_network_bits(network, (size_t)layer->input[0]);
  int64_t macs = qe_network_macs(network, at);
  return (qe_cost_row){.layer = layer->name,
                       .weight_bits = bits,
                       .act_bits = act,
                       .params = count,
                       .macs = macs,
                       .bit_ops = macs * bits * act,
                       .bytes = (int64_t)qe_packed_bytes(count, bits)};
}

static void count_requant(const qe_network_layer *layer, qe_cost_row *row) {
  int64_t channels = layer->output.dim[QE_C];
  row->params += channels * (layer->inputs + 1);
  row->bytes += channels * (layer->inputs * (int64_t)sizeof(int32_t) + (int64_t)sizeof(int64_t));
}

static qe_status network_rows(const qe_network *network, qe_cost_table *table) {
  qe_cost_row requant = {.layer = "requantisers"};
  for (size_t i = 0; i < network->layers; i++) {
    if (network->layer[i].weight) QE_TRY(add_row(table, network_row(network, i)));
    if (network->layer[i].offset) count_requant(&network->layer[i], &requant);
  }
  return add_row(table, requant);
}

qe_status qe_cost_of_network(const qe_network *network, qe_cost_table *table) {
  *table = (qe_cost_table){.sum = {.layer = "all layers"}};
  QE_TRY(give_up(table, network_rows(network, table)));
  for (size_t i = 0; i < table->rows; i++) {
    table->sum.params += table->row[i].params;
    table->sum.macs += table->row[i].macs;
    table->sum.bit_ops += table->row[i].bit_ops;
    table->sum.bytes += table->row[i].bytes;
  }
  return QE_OK;
}

void qe_cost_table_free(qe_cost_table *table) {
  qe_free(table->row);
  memset(table, 0, sizeof *table);
}

static void print_bits(int bits, FILE *file) {
  if (bits)
    fprintf(file, " %6d", bits);
  else
    fprintf(file, " %6s", "");
}

static void print_row(const qe_cost_row *row, FILE *file) {
  fprintf(file, "%-24s", row->layer);
  print_bits(row->weight_bits, file);
  print_bits(row->act_bits, file);
  fprintf(file, " %12lld %12lld %14lld %12lld\n", (long long)row->params, (long long)row->macs, (long long)row->bit_ops,
          (long long)row->bytes);
}

void qe_cost_table_print(const qe_cost_table *table, FILE *file) {
  fprintf(file, "%-24s %6s %6s %12s %12s %14s %12s\n", "layer", "weight", "act", "parameters", "MACs", "bit-operations",
          "bytes");
  for (size_t i = 0; i < table->rows; i++) print_row(&table->row[i], file);
  print_row(&table->sum, file);
}

static void json_numbers(const qe_cost_row *row, qe_json *json) {
  qe_json_int(json, "params", row->params);
  qe_json_int(json, "macs", row->macs);
  qe_json_int(json, "bit_operations", row->bit_ops);
  qe_json_int(json, "bytes", row->bytes);
}

void qe_cost_table_json(const qe_cost_table *table, qe_json *json) {
  json_numbers(&table->sum, json);
  qe_json_open_array(json, "layers");
  for (size_t i = 0; i < table->rows; i++) {
    const qe_cost_row *row = &table->row[i];
    qe_json_open_object(json, NULL);
    qe_json_text(json, "layer", row->layer);
    if (row->weight_bits) qe_json_int(json, "weight_bits", row->weight_bits);
    if (row->act_bits) qe_json_int(json, "act_bits", row->act_bits);
    json_numbers(row, json);
    qe_json_close(json);
  }
  qe_json_close(json);
}
