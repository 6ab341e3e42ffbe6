module github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/tools/picture

go 1.26.0
