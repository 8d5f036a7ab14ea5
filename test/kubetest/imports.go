package kubetest

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcscrd "sigs.k8s.io/mcs-api/config/crd"
	mcsclient "sigs.k8s.io/mcs-api/pkg/client/clientset/versioned/typed/apis/v1alpha1"
	"sigs.k8s.io/yaml"
)

// definitions is where the API server keeps CustomResourceDefinitions.
const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// InstallServiceImports has the API server serve ServiceImports, and waits until it
// does.
func (c *ControlPlane) InstallServiceImports() {
	c.t.Helper()
	definition, err := yaml.YAMLToJSON(mcscrd.ServiceImportCRD)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.Client.RESTClient().Post().AbsPath(definitions).Body(definition).DoRaw(ctx); err != nil {
		c.t.Fatal(err)
	}
	c.server.await("ServiceImports", patience, func() error {
		_, err := c.ServiceImports("default").List(ctx, metav1.ListOptions{})
		return err
	})
}

// RemoveServiceImports takes the definition away, and all ServiceImports with it.
func (c *ControlPlane) RemoveServiceImports() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.Client.RESTClient().Delete().AbsPath(definitions, "serviceimports.multicluster.x-k8s.io").DoRaw(ctx); err != nil {
		c.t.Fatal(err)
	}
}

// ServiceImports returns a client of those in a namespace.
func (c *ControlPlane) ServiceImports(namespace string) mcsclient.ServiceImportInterface {
	c.t.Helper()
	client, err := mcsclient.NewForConfig(c.Config())
	if err != nil {
		c.t.Fatal(err)
	}
	return client.ServiceImports(namespace)
}
