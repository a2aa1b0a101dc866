// What `fathom bench` says: a table for people, JSON with every sample for programs.
#pragma once

#include <string>
#include <vector>

#include "apps/bench_machine.h"
#include "apps/bench_run.h"

namespace fathom {

struct BenchReport {
  std::string model;  // name
  std::string architecture;
  std::string types;  // "Q4_K 0.77 GB, Q6_K 0.19 GB"
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  std::string backend;  // Ops::description
  std::string compute;
  int threads = 0;
  double load_seconds = 0;
  int64_t chunk = 0;
  std::vector<BenchResult> results;
};

void print_bench_machine(const BenchReport& report, const BenchMachine& machine);
// One line of the table; the first call's caller prints the header.
void print_bench_header();
void print_bench_result(const BenchResult& result, const BenchMachine& machine);
// The shares are of the machine's best over the whole run, so they stand at the end.
void print_bench_summary(const BenchReport& report, const BenchMachine& machine);

std::string bench_json(const BenchReport& report, const BenchMachine& machine);

}  // namespace fathom
