using '../main.bicep'

param name = 'tidemark'
param location = 'usgovvirginia'
param tags = {
  environment: 'production'
}
param containerRegistryResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/images/providers/Microsoft.ContainerRegistry/registries/contosoimages'
param image = 'tidemark:0.1.0'
param replicaSkuName = 'Standard_ZRS'
param failoverResourceGroupName = 'recovered-machines'
param logKeySecretName = 'tidemark-log-key'
param privateNetwork = {
  virtualNetworkResourceId: '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/network/providers/Microsoft.Network/virtualNetworks/hub'
  endpointSubnetResourceId: '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/network/providers/Microsoft.Network/virtualNetworks/hub/subnets/endpoints'
  appSubnetResourceId: '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/network/providers/Microsoft.Network/virtualNetworks/hub/subnets/tidemark'
}
param sourcePrincipals = [
  {
    principalId: '11111111-1111-1111-1111-111111111111'
    principalType: 'ServicePrincipal'
  }
]
param alertEmails = ['recovery@contoso.example']
